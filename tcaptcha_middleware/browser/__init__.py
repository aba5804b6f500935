"""The browser half: what visitors' browsers are served."""
