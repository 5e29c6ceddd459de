"""The URL of a Redis broker, understood and checked.

    redis://[user:password@]host[:6379][/db]                    one server
    redis+sentinel://host[:26379][,host...]/name[/db]           the primary called `name` of these Sentinels
    redis+cluster://host[:6379][,host...]                       a Cluster, found through any of these nodes

`rediss` instead of `redis` is TLS, `valkey` means the same as `redis`. User and password are those of the servers that
hold the data; Sentinels have their own, as options. Options stand behind `?`, see `OPTIONS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote

from hybrid.errors import SettingsError

Kind = Literal["single", "sentinel", "cluster"]

OPTIONS: Final = {
    "ca": "ssl_ca_certs",
    "certificate": "ssl_certfile",
    "key": "ssl_keyfile",
    "sentinel_username": "sentinel_username",
    "sentinel_password": "sentinel_password",
}
"""What may stand behind `?`: files for TLS, and who we are to the Sentinels. The value is redis-py's name for it."""

_URL: Final = re.compile(
    r"(?P<name>redis|valkey)(?P<tls>s?)(?:\+(?P<kind>sentinel|cluster))?://"
    r"(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<hosts>[^/?#]+)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?\Z"
)
_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?\Z")


@dataclass(frozen=True)
class Address:
    """Where the servers are. `options` are keyword arguments of redis-py's connections; they may hold passwords."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    is_tls: bool = False
    primary: str = ""
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """For logs: without user or password."""
        shown = ", ".join(f"{host}:{port}" for host, port in self.hosts)
        return {"single": f"Redis at {shown}", "cluster": f"the Redis Cluster at {shown}"}.get(
            self.kind, f"the Redis primary {self.primary!r} of the Sentinels at {shown}"
        )


def parse_address(url: str) -> Address:
    """The address that a URL names. Raises SettingsError, one sentence that never quotes the URL."""
    match = _URL.match(url)
    if match is None:
        raise _refusal("is not of the form redis://user:password@host:port/db (encode @, : and / in a password)")
    kind: Kind = match["kind"] or "single"  # type: ignore[assignment]
    hosts = tuple(_host(text, 26_379 if kind == "sentinel" else 6_379) for text in match["hosts"].split(","))
    if kind == "single" and len(hosts) > 1:
        raise _refusal("names several hosts: use redis+sentinel:// or redis+cluster:// for those")
    options: dict[str, Any] = {}
    if match["user"]:
        options["username"] = unquote(match["user"])
    if match["password"]:
        options["password"] = unquote(match["password"])
    primary, database = _path(kind, (match["path"] or "").strip("/"))
    if database:
        options["db"] = database
    given = _query(match["query"] or "")
    sentinel_options = {
        name.removeprefix("sentinel_"): given.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in given
    }
    if sentinel_options and kind != "sentinel":
        raise _refusal("has options for Sentinels, and is not redis+sentinel://")
    is_tls = bool(match["tls"])
    if given and not is_tls:
        raise _refusal("has options for TLS, and is not rediss://")
    options |= given
    return Address(kind, hosts, is_tls, primary, options, {**given, **sentinel_options})


def _host(text: str, default_port: int) -> tuple[str, int]:
    match = _HOST.match(text)
    port = int(match["port"] or default_port) if match else 0
    if match is None or not 0 < port < 65_536:
        raise _refusal("names a host that is not host:port with a port from 1 to 65535 ([...] around IPv6)")
    return unquote(match["v6"] or match["name"]), port


def _path(kind: Kind, path: str) -> tuple[str, int]:
    """The primary's name and the number of the database."""
    parts = [unquote(part) for part in path.split("/")] if path else []
    primary = ""
    if kind == "sentinel":
        if not parts:
            raise _refusal("must name the primary that the Sentinels watch: redis+sentinel://host:26379/NAME")
        primary = parts.pop(0)
    if kind == "cluster" and parts:
        raise _refusal("has a database, which a Cluster does not: end it behind the hosts")
    if len(parts) > 1 or (parts and not re.fullmatch("[0-9]{1,9}", parts[0])):
        raise _refusal("ends in something that is not the number of a database")
    return primary, int(parts[0]) if parts else 0


def _query(query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS or not value:
            raise _refusal(f"has an option that is not known, or empty; known are {', '.join(OPTIONS)}")
        given[OPTIONS[name]] = value
    return given


def _refusal(what: str) -> SettingsError:
    return SettingsError(detail=f"broker: the URL {what}.")
