"""Who may read the metrics: nobody, unless a token or a setting says so.

They tell no names, but how many clients there are, which limits hold and when tokens are refused; and each reading
costs milliseconds. A token in `Authorization: Bearer` with the scope `hybrid:metrics` may read from anywhere
(`authorization` or `bearer_token_file` of Prometheus). Without a token a request may that comes from a listed network,
by itself: not through a proxy, whose own address would stand for everybody's behind it, and not from a page in a
browser that runs in such a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from hybrid.auth.bearer import find_credential
from hybrid.auth.grants import METRICS_SCOPE, is_granted
from hybrid.auth.origin import DoorPolicy
from hybrid.engine.engine import Engine
from hybrid.errors import AuthError, HybridError
from hybrid.transports.exchange import Headers
from hybrid.transports.forwarded import TrustedProxies, parse_address

_PROXIED: Final = frozenset((b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip", b"x-forwarded-host"))
_OF_BROWSERS: Final = (b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"cookie")


class Readers:
    """See the module's text."""

    def __init__(self, engine: Engine, networks: Iterable[str], door_policy: DoorPolicy) -> None:
        """Raises ValueError for a network that is none."""
        self._engine = engine
        self._door_policy = door_policy
        self._networks = TrustedProxies(networks)

    async def check(self, headers: Headers, address: str) -> None:
        """Return if a request with these headers, from this address, may read.

        Raises AuthError, LimitError for an address with too many tokens under way.
        """
        try:
            await self._check(headers, address)
        except HybridError as error:
            self._engine.counts.refused(error)
            raise

    async def _check(self, headers: Headers, address: str) -> None:
        credential = find_credential(headers)
        if credential is None:
            if not self._is_from_network(headers, address):
                raise AuthError("unauthorized", f"Send a token with the scope {METRICS_SCOPE}.", scope=METRICS_SCOPE)
            return
        if credential.proof is not None:
            raise AuthError("unauthorized", "Only the Bearer scheme is taken here.", scope=METRICS_SCOPE)
        principal = self._engine.verifier.cached(credential.token)
        if principal is None:
            admission = self._engine.door.enter(address)
            try:
                principal = await self._engine.identification.verified(credential.token, address)
            finally:
                admission.leave()
        if principal.expires_at_s <= self._engine.clock.wall_s():
            raise AuthError("token_expired")
        if not is_granted(principal, "metrics", "*"):
            detail = f"To read metrics, a token needs the scope {METRICS_SCOPE}."
            raise AuthError("forbidden", detail, scope=METRICS_SCOPE)

    def _is_from_network(self, headers: Headers, address: str) -> bool:
        if not self._networks or _has(headers, _PROXIED) or _has(headers, _OF_BROWSERS):
            return False
        parsed = parse_address(address)
        if parsed is None or not self._networks.trusts(parsed):
            return False
        if not _is_asked_by_number(headers):
            self._door_policy.check(headers)  # a name of somebody else that leads here: a page in a browser's network
        return True


def _is_asked_by_number(headers: Headers) -> bool:
    """Whether the Host is an address, as it is where Prometheus finds its targets by itself. No name can lead to it."""
    hosts = [value for name, value in headers if name == b"host"]
    try:
        return len(hosts) == 1 and bool(ip_address(urlsplit(f"//{hosts[0].decode('ascii')}").hostname or ""))
    except ValueError:
        return False


def _has(headers: Headers, names: Sequence[bytes] | frozenset[bytes]) -> bool:
    return any(name in names for name, _ in headers)
