"""Tencent's client script: which one belongs to a site, and which may stand in for it.

https://cloud.tencent.com/document/product/1110/36841
https://www.tencentcloud.com/document/product/1159/73397
"""

from __future__ import annotations

import re
from urllib.parse import urljoin

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.tencent.api import SITES, is_loopback

_NAMES = {
    "cn": ("TJCaptcha.js", "TCaptcha.js"),
    "intl": ("TJNCaptcha-global.js", "TCaptcha-global.js"),
}
# The older ones stand beside the current one.
_NAMED = {
    site: {name: urljoin(SITES[site].script, name) for name in names}
    for site, names in _NAMES.items()
}
_OTHER_SITE = {"cn": "intl", "intl": "cn"}

# Its origin stands in a Content-Security-Policy, so that nothing may be in it that ends a
# source there.
_URL = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)"
    r"/[A-Za-z0-9._~!$&()*+=:@%/?-]*"
)


def script_url(site: str, given: str | None) -> str:
    """Return the URL of the client script.

    Args:
        site: `"cn"` or `"intl"`.
        given: The name of one of the site's scripts, such as `"TCaptcha.js"`, or a whole URL;
            None for the site's current one.

    Raises:
        ConfigurationError: No such site; or the script is neither, or the other site's.
    """
    if site not in SITES:
        raise ConfigurationError(f'site is {site!r}: it is "cn" or "intl"')
    if given is None:
        return SITES[site].script
    if given in _NAMED[site]:
        return _NAMED[site][given]
    if given in _NAMED[_OTHER_SITE[site]]:
        names = " or ".join(_NAMED[site])
        raise ConfigurationError(
            f"script {given!r} is of the site {_OTHER_SITE[site]!r}, and site is {site!r}: "
            f"write {names}"
        )
    return _whole(given)


def origin_of(script: str) -> str:
    """Return the origin of a script's URL, as it stands in a Content-Security-Policy.

    Raises:
        ConfigurationError: It is no whole URL.
    """
    return _parts(script)["origin"].lower()


def _whole(given: str) -> str:
    parts = _parts(given)
    if parts["scheme"] == "http" and not is_loopback(parts["host"].lower()):
        raise ConfigurationError(
            f"script is {given!r}: whoever is on the way could change it; write https"
        )
    return given


def _parts(script: str) -> re.Match[str]:
    found = _URL.fullmatch(str(script))
    if found is None:
        names = ", ".join(_NAMED["cn"] | _NAMED["intl"])
        raise ConfigurationError(
            f"script is {script!r}: write a whole URL, such as "
            f'"https://example.com/TJCaptcha.js", or one of {names}'
        )
    return found
