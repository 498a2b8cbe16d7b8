"""Finds the proxy for a request to the exchange: in the settings, or in the environment."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from bridge import settings
from bridge.errors import FeedRefused
from bridge.settings.urls import hide_user, is_http_proxy


def proxy_of(options: settings.Binance, url: str) -> str | None:
    """Return the proxy for a URL of the exchange; None if the request goes there directly.

    The environment names it as for other programs: HTTPS_PROXY or HTTP_PROXY by the scheme of the
    URL, then ALL_PROXY, and NO_PROXY for hosts without a proxy. Raises FeedRefused if the variable
    does not name an HTTP proxy.
    """
    if not options.uses_environment_proxy:
        return options.proxy_url
    parts = urlsplit(url)
    scheme = "https" if parts.scheme in {"https", "wss"} else "http"
    known = {} if proxy_bypass(parts.netloc) else getproxies()
    for name in (scheme, "all"):
        if proxy := known.get(name):
            if is_http_proxy(proxy):
                return proxy
            raise FeedRefused(
                f"the environment variable {name.upper()}_PROXY is {hide_user(proxy)!r}, which is "
                "not an HTTP proxy",
                "write http://host:port there; or set binance.proxy, which comes first",
            )
    return None
