"""The router's address: which one, and whether it can be. Pure."""

from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:11434"

#: The environment variable that names it.
VARIABLE = "LLM_ROUTER_URL"


def root(url: str, *, source: str) -> str:
    """The address as `http://host:port`, without a path.

    Args:
        source: what an error calls it.

    Raises:
        ValueError: it is no router's. The text shows no user and no password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(
            f"{source} has a host or port that can't be; write it as {DEFAULT_URL}"
        ) from None
    if "@" in url:
        raise ValueError(f"{source} holds a user or password, which a router has not")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{source} is {url!r}; write it as {DEFAULT_URL}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(
            f"{source} is {url!r}; give the router's root, as {DEFAULT_URL}, without a path"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
