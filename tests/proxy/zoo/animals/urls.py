"""How the origin is called by clients that reach it through a forward proxy."""

from __future__ import annotations

from tests.proxy.zoo.animals.base import Origin


def plain_url(origin: Origin) -> str:
    """Its address without TLS."""
    return f"http://{origin.host}:{origin.port}"


def tls_url(origin: Origin) -> str:
    """Its name with TLS. By name, because whoever opens TLS makes certificates for the name that the client asks for.

    Raises ValueError for an origin without TLS.
    """
    if origin.tls_port is None or origin.ca is None:
        raise ValueError("this animal is for an origin with TLS")
    return f"https://localhost:{origin.tls_port}"
