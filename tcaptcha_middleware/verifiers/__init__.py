"""Verifiers: who says whether a ticket passed, and the connections and threads they use."""
