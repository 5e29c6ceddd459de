"""Which pages may talk to us, and under which names we are reached; checked before anything else is done.

CORS only stops a page from *reading* an answer; the request is carried out all the same, and WebSockets know no CORS at
all (cross-site WebSocket hijacking). So the Origin is compared with an exact list, on every route. The Host is compared
too: a name of somebody else that resolves to our address (DNS rebinding) would make foreign pages "same origin".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from hybrid.errors import AuthError, SettingsError

_HOST: Final = re.compile(r"(?P<name>[a-z0-9](?:[a-z0-9._-]*[a-z0-9.])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}|\*))?")
_ORIGIN: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[^/?#@\s]+)")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}

_VARY: Final = (b"vary", b"Origin")
_EXPOSED: Final = (b"access-control-expose-headers", b"Retry-After, WWW-Authenticate")
_CREDENTIALS: Final = (b"access-control-allow-credentials", b"true")
_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET, POST"),
    (
        b"access-control-allow-headers",
        b"Authorization, DPoP, Content-Type, Last-Event-ID, Idempotency-Key, Hybrid-Type",
    ),
    (b"access-control-max-age", b"7200"),  # the longest that Chromium honours
)


class DoorPolicy:
    """The two lists and the comparison.

    `allowed_origins` are origins as browsers write them (`https://app.example`); a request without Origin is allowed,
    since no cookies are used and so a page cannot borrow anybody's credentials. `allowed_hosts` are values of the Host
    header (`app.example`, `127.0.0.1:8000`; `localhost:*` for any port). With `allow_same_origin` a page that was
    loaded under an allowed Host may talk to that same Host without being listed.
    """

    def __init__(
        self,
        allowed_origins: Iterable[str],
        allowed_hosts: Iterable[str],
        *,
        allow_same_origin: bool = True,
        allow_credentials: bool = False,
    ) -> None:
        """`allow_credentials` lets pages of listed origins send cookies along and read what is answered.

        Raises SettingsError for an entry that could never match or would match everything, and for no hosts.
        """
        self._origins: Final = frozenset(allowed_origins)
        for origin in self._origins:
            _check_origin_setting(origin)
        self._hosts: Final = frozenset(host.lower() for host in allowed_hosts)
        if not self._hosts:
            raise SettingsError(detail="allowed_hosts is empty: name the hosts under which clients reach this server.")
        for host in self._hosts:
            if not _HOST.fullmatch(host):
                raise SettingsError(detail=f"allowed_hosts: {host!r} is not a host with an optional port.")
        self._names: Final = frozenset(host[:-2] for host in self._hosts if host.endswith(":*"))
        self._allow_same_origin: Final = allow_same_origin
        self._with_credentials: Final = (_CREDENTIALS,) if allow_credentials else ()

    def check(self, headers: Iterable[tuple[bytes, bytes]], *, scheme: str = "http") -> None:
        """Return if a request with these ASGI headers may come in. `scheme` is that of the request.

        Raises AuthError `origin_refused` (4504): the Host is missing, repeated or not ours; the Origin is repeated,
        `null`, or neither listed nor our own.
        """
        hosts, origins = [], []
        for name, value in headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origins.append(value)
        if len(hosts) != 1 or len(origins) > 1:
            raise AuthError("origin_refused")
        host = hosts[0].decode("latin-1").lower()
        if not self._is_our_host(host):
            raise AuthError("origin_refused", "This server is not reached under that Host name.")
        if origins and not self._is_our_origin(origins[0].decode("latin-1"), host, scheme):
            raise AuthError("origin_refused", "Pages of that Origin are not allowed here.")

    def foreign_origin(self, headers: Iterable[tuple[bytes, bytes]], *, scheme: str = "http") -> str | None:
        """The Origin that a ticket is bound to; None for a page of our own, and where there is none.

        A browser sends the Origin with a page's POST but not with its same-origin GET (Fetch, section 4.3 of "HTTP
        extensions"), so that our own pages could otherwise never use the ticket they asked for.
        """
        named = {name: value.decode("latin-1") for name, value in headers if name in (b"host", b"origin")}
        origin, host = named.get(b"origin"), named.get(b"host", "").lower()
        return None if origin is None or self._is_same_origin(origin, host, scheme) else origin

    def cors_headers(self, origin: str | None, *, is_preflight: bool = False) -> tuple[tuple[bytes, bytes], ...]:
        """What to add to an answer so that a page of a listed origin can read it.

        An origin that is not listed gets `Vary: Origin` only, lest a cache hand one page's answer to another.
        """
        if origin is None or origin not in self._origins:
            return (_VARY,)
        allowed = (b"access-control-allow-origin", origin.encode("ascii"))
        rest = _PREFLIGHT if is_preflight else (_EXPOSED,)
        return (allowed, _VARY, *self._with_credentials, *rest)

    def _is_our_host(self, host: str) -> bool:
        if host in self._hosts:
            return not host.endswith(":*")  # the way a setting is written is not a Host
        parts = _HOST.fullmatch(host)
        return parts is not None and parts["port"] != "*" and parts["name"] in self._names

    def _is_our_origin(self, origin: str, host: str, scheme: str) -> bool:
        return origin in self._origins or (self._allow_same_origin and self._is_same_origin(origin, host, scheme))

    def _is_same_origin(self, origin: str, host: str, scheme: str) -> bool:
        parts = _ORIGIN.fullmatch(origin)
        if parts is None or parts["scheme"] not in _DEFAULT_PORTS:
            return False
        if parts["scheme"] == "http" and scheme in ("https", "wss"):
            return False  # a page that came in the clear could have been written by anybody on its way
        port = ":" + _DEFAULT_PORTS[parts["scheme"]]
        return parts["host"].removesuffix(port) == host.removesuffix(port)


def _check_origin_setting(origin: str) -> None:
    parts = _ORIGIN.fullmatch(origin)
    if (
        parts is None
        or not origin.isascii()
        or origin != origin.lower()
        or (parts["scheme"] in _DEFAULT_PORTS and not _is_exact_host(parts["host"]))
        or parts["host"].endswith(":" + _DEFAULT_PORTS.get(parts["scheme"], "none"))
    ):
        raise SettingsError(
            detail=f"allowed_origins: {origin!r} is not an origin as browsers send it: scheme://host[:port], in lower "
            "case, without a path and without the scheme's default port; patterns and null are not supported."
        )


def _is_exact_host(host: str) -> bool:
    parts = _HOST.fullmatch(host)
    return parts is not None and parts["port"] != "*"
