"""Extract and screen: find the pair in a request, and reject what cannot be a ticket."""
