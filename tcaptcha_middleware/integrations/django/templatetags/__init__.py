"""Template tags: `{% load tcaptcha %}`."""
