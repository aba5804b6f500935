"""Replay stores: each lets a ticket be used once. They keep hashes, never tickets."""
