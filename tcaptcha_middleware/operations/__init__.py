"""What an operator sees and may do."""
