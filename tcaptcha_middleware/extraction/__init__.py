"""Extract and screen: where a request may carry the pair, and what is worth a call."""
