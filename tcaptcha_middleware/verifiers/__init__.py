"""Verifiers: who says whether a ticket passed. Each in its module, in both colours."""
