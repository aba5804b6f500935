"""The URL of a proxy, as users write it."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from tcaptcha_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from tcaptcha_middleware._http.connection import Proxy

# Compiled when it is used: few processes have a proxy.
_URL = (
    r"http://(?:(?P<user>[^\s:/?#@]+)(?::(?P<password>[^\s/?#@]*))?@)?"
    r"(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\]):(?P<port>[0-9]{1,5})/?"
)
_MAX_PORT = 0xFFFF


def parse_proxy(url: str) -> Proxy:
    """Return host, port and authorization from the URL of a proxy, such as `"http://user:password@proxy.example:3128"`.

    Raises:
        ConfigurationError: If this is not the URL of an HTTP proxy. The message does not repeat
            it, because it may contain a password.
    """
    parts = re.fullmatch(_URL, str(url), re.ASCII | re.IGNORECASE)
    if parts is None or not 0 < int(parts["port"]) <= _MAX_PORT:
        raise ConfigurationError(
            'proxy is not the URL of an HTTP proxy: use "http://proxy.example:3128" or '
            '"http://user:password@proxy.example:3128", with special characters '
            "percent-encoded. Proxies with https:// or socks:// need an httpx client="
        )
    fields = ""
    if parts["user"] is not None:
        user, password = (unquote_to_bytes(parts[name] or "") for name in ("user", "password"))
        credentials = b64encode(user + b":" + password).decode()
        fields = f"Proxy-Authorization: Basic {credentials}\r\n"
    return parts["host"].strip("[]"), int(parts["port"]), fields
