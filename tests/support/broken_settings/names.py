from tcaptcha_middleware import no_such_name  # noqa: F401
