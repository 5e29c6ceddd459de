"""The name of a client in logs."""

from __future__ import annotations

from typing import Any


def peer_name(client: Any) -> str:
    """Address and port out of ASGI's `client` or a transport's `peername`; empty where that is not told.

    A port of 0 is unknown: the client is behind a proxy, which told its address only.
    """
    if not client or not isinstance(client, tuple | list):
        return ""
    # A proxy middleware may have put there what a client wrote: no control character of it reaches a log.
    host, port = "".join(filter(str.isprintable, str(client[0])))[:64], client[1]
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
