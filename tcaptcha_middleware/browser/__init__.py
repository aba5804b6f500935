"""`tcaptcha.js`, an ES module without dependencies, with its types, and what serves it."""
