"""A small site behind the gate, to click through: `tcaptcha demo`. Needs the extra `demo`."""
