"""The browser's half: `tcaptcha.js`, an ES module, with its types, and what serves it.

The module is served as it is: it has no dependencies and no build.
"""
