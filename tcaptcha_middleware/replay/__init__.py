"""Claims: who may spend a ticket. Each store keeps hashes, and never a ticket."""
