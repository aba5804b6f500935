"""Tencent's two captcha services: the addresses of their APIs and client scripts.

https://cloud.tencent.com/document/product/1110/36841
https://www.tencentcloud.com/document/product/1159/73397
https://www.tencentcloud.com/document/product/1159/50367
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin, urlsplit

from tcaptcha_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from tcaptcha_middleware.tencent.actions import Action

# These are compiled when they are used: few verifiers have an address of their own.
_ORIGIN = (
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?)/*"
)
_MAX_PORT = 0xFFFF


class Site(NamedTuple):
    """One of Tencent's two separate captcha services.

    Attributes:
        endpoint: The API's origin.
        script: The client script, which pages have to load from there.
    """

    endpoint: str
    script: str


SITES = {
    "cn": Site(
        "https://captcha.tencentcloudapi.com", "https://turing.captcha.qcloud.com/TJCaptcha.js"
    ),
    "intl": Site(
        "https://captcha.intl.tencentcloudapi.com",
        "https://ca.turing.captcha.qcloud.com/TJNCaptcha-global.js",
    ),
}


def api_origin(site: str, origin: str | None, action: Action) -> str:
    """Return the origin that calls go to.

    Args:
        site: `"cn"` or `"intl"`.
        origin: A whole origin instead, such as `"http://127.0.0.1:9000"`.
        action: What is called there.

    Raises:
        ConfigurationError: If the site is unknown, or `origin` is not an origin, or secrets
            would be sent there unencrypted.
    """
    if site not in action.sites:
        known = " or ".join(f'"{name}"' for name in action.sites)
        raise ConfigurationError(f"site is {site!r}: for {action.name} it is {known}")
    if origin is None:
        return SITES[site].endpoint
    parts = re.fullmatch(_ORIGIN, str(origin), re.ASCII | re.IGNORECASE)
    if parts is None or not _is_port(parts["port"]):
        raise ConfigurationError(
            f'endpoint is {origin!r}: write a whole origin, such as "http://127.0.0.1:9000"'
        )
    if parts["scheme"].lower() == "http" and not is_loopback(parts["host"].lower()):
        raise ConfigurationError(
            f"endpoint is {origin!r}: calls contain AppSecretKey, so http is allowed to this "
            "machine only; use https"
        )
    return parts["origin"].lower()


def _is_port(text: str | None) -> bool:
    return text is None or 0 < int(text) <= _MAX_PORT


def is_tencents(origin: str) -> bool:
    """Return whether `origin` is one of Tencent Cloud's."""
    return f"{urlsplit(origin).hostname}".endswith(".tencentcloudapi.com")


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine, as a name or an address in a URL."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# The scripts of each site, the current one first.
_SCRIPTS = {
    site: {name: urljoin(SITES[site].script, name) for name in names}
    for site, names in {
        "cn": ("TJCaptcha.js", "TCaptcha.js"),
        "intl": ("TJNCaptcha-global.js", "TCaptcha-global.js"),
    }.items()
}
# Relative to the settings that name it, so the application's own origin may serve the script.
_RELATIVE_SCRIPT = r"(?!//)\.{0,2}/[A-Za-z0-9._~!$&()*+=:@%/?-]+"
# Its origin is used in a Content-Security-Policy, so it may not contain anything that ends a
# source there.
_SCRIPT_URL = (
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?)"
    r"/[A-Za-z0-9._~!$&()*+=:@%/?-]*"
)


def script_url(site: str, script: str | None) -> str:
    """Return the URL of the client script.

    Args:
        site: `"cn"` or `"intl"`.
        script: The name of one of the site's scripts, such as `"TCaptcha.js"`, or a whole URL,
            or one that is relative to the settings, such as `"../emulator/TJCaptcha.js"`; None
            for the site's current one.

    Raises:
        ConfigurationError: If the site is unknown, or the script belongs to the other site, or
            is neither a name nor a URL.
    """
    if site not in SITES:
        raise ConfigurationError(f'site is {site!r}: use "cn" or "intl"')
    if script is None:
        return SITES[site].script
    if script in _SCRIPTS[site]:
        return _SCRIPTS[site][script]
    other = "intl" if site == "cn" else "cn"
    if script in _SCRIPTS[other]:
        raise ConfigurationError(
            f"script {script!r} belongs to the site {other!r}, and site is {site!r}: "
            f"use {' or '.join(_SCRIPTS[site])}"
        )
    if re.fullmatch(_RELATIVE_SCRIPT, str(script)):
        return script
    parts = _script_parts(script)
    if parts["scheme"] == "http" and not is_loopback(parts["host"].lower()):
        raise ConfigurationError(
            f"script is {script!r}: anyone on the way could change it; use https"
        )
    return script


def origin_of(script: str) -> str:
    """Return the origin of a script's URL, for a Content-Security-Policy.

    Raises:
        ConfigurationError: If it is not a URL.
    """
    if re.fullmatch(_RELATIVE_SCRIPT, str(script)):
        return "'self'"
    return _script_parts(script)["origin"].lower()


def _script_parts(script: str) -> re.Match[str]:
    parts = re.fullmatch(_SCRIPT_URL, str(script))
    if parts is None or not _is_port(parts["port"]):
        names = ", ".join(_SCRIPTS["cn"] | _SCRIPTS["intl"])
        raise ConfigurationError(
            f"script is {script!r}: use a whole URL, such as "
            f'"https://example.com/TJCaptcha.js", or one of {names}'
        )
    return parts
