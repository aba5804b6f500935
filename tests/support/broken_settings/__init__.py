"""Modules for settings, none of which can be imported."""
