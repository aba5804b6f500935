"""Matching of request targets, in any form, against rules."""
