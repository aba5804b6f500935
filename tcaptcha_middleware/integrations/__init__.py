"""What knows a web framework. A framework is imported only by its own module."""
