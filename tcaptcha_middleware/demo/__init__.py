"""A small protected site to try in a browser: `tcaptcha demo`. Needs the extra `demo`."""
