"""The keys that issuers sign with: imported key by key, cached, rotated, kept through outages.

One store per configured issuer. A cache shared between issuers and looked up by key id alone would let one issuer sign
for another (CVE-2026-49998). Nothing that a token says leads to a fetch of anything but its configured issuer's keys,
and an unknown key id leads to one at most every `COOL_DOWN_S`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from hybrid.auth.discovery import Fetch, find_endpoint
from hybrid.auth.fetch import FetchError
from hybrid.clock import Clock
from hybrid.errors import AuthError

logger = logging.getLogger(__name__)

VerifyingKey = RSAKey | ECKey | OKPKey

FRESH_S: Final = 600.0
"""Keys older than this are fetched again in the background: rotations are announced hours ahead."""
COOL_DOWN_S: Final = 30.0
"""Between two fetches caused by unknown key ids, which anybody can make up."""
RETRY_S: Final = 5.0
"""Between two fetches while the issuer cannot be reached."""
STALE_S: Final = 86_400.0
"""Old keys serve this long through an outage of the issuer, then its tokens are no longer accepted."""
KEYS_MAX: Final = 64
"""Keys used of one set, the first ones: real sets hold two or three."""
KEY_ID_MAX_CHARACTERS: Final = 256
"""Of a key id that is looked up."""
RSA_BITS: Final = range(2_048, 8_193)
"""Below, RSA can be broken; above, one check takes milliseconds."""


class KeySource(Protocol):
    """Where the keys of one issuer come from."""

    async def find(self, kid: str | None) -> Sequence[VerifyingKey]:
        """Every key with this id; without an id the only key, if there is but one. Empty when there is none.

        Raises AuthError `keys_unavailable` when that cannot be known now. Cancel-safe.
        """
        ...

    def on_removal(self, callback: Callable[[], None]) -> None:
        """Call back whenever a key that could be found before can be found no more. One callback; must not raise."""
        ...

    async def warm(self) -> bool:
        """Have keys ready, if possible; says whether. Does not raise."""
        ...

    async def close(self) -> None:
        """Release everything; safe to call twice."""
        ...


class StaticKeys:
    """Keys that are given, not fetched: those of an issuer in this process."""

    def __init__(self, keys: Iterable[VerifyingKey] = ()) -> None:
        self._by_id: dict[str, list[VerifyingKey]] = {}
        self._removed: Callable[[], None] = _nothing
        self.replace(keys)

    def replace(self, keys: Iterable[VerifyingKey]) -> None:
        """From now on, these."""
        before, self._by_id = self._by_id, _by_id(keys)
        if _has_lost(before, self._by_id):
            self._removed()

    async def find(self, kid: str | None) -> Sequence[VerifyingKey]:
        """See `KeySource.find`; never raises."""
        return _find(self._by_id, kid)

    def on_removal(self, callback: Callable[[], None]) -> None:
        """See `KeySource.on_removal`."""
        self._removed = callback

    async def warm(self) -> bool:
        """See `KeySource.warm`."""
        return bool(self._by_id)

    async def close(self) -> None:
        """Nothing to release."""


class KeyStore:
    """The keys of one issuer on the network.

    Many askers share one fetch. Old keys are used while newer ones are fetched in the background, and for `STALE_S`
    when they cannot be had. Belongs to the event loop on which it is first used.
    """

    def __init__(self, issuer: str, fetch: Fetch, clock: Clock, *, jwks_url: str | None = None) -> None:
        """`fetch` gets a JSON object or raises FetchError; `jwks_url` None means: ask the issuer's metadata."""
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._jwks_url = jwks_url
        self._by_id: dict[str, list[VerifyingKey]] = {}
        self._fetched_at_s = float("-inf")
        self._tried_at_s = float("-inf")
        self._has_failed = False
        self._flight: asyncio.Task[None] | None = None
        self._removed: Callable[[], None] = _nothing

    async def find(self, kid: str | None) -> Sequence[VerifyingKey]:
        """See `KeySource.find`."""
        if kid is not None and len(kid) > KEY_ID_MAX_CHARACTERS:
            return ()
        age_s = self._clock.monotonic_s() - self._fetched_at_s
        if age_s > STALE_S:
            if self._may_try(RETRY_S):
                await self._refresh()
            if self._clock.monotonic_s() - self._fetched_at_s > STALE_S:
                raise _unavailable()
        elif age_s > FRESH_S and self._may_try(COOL_DOWN_S):
            self._start()
        keys = _find(self._by_id, kid)
        if not keys and kid is not None:
            if self._may_try(COOL_DOWN_S):
                await self._refresh()
                keys = _find(self._by_id, kid)
            if not keys and self._has_failed:
                raise _unavailable()  # it may be a new key that could not be fetched: "not now", not "never"
        return keys

    def on_removal(self, callback: Callable[[], None]) -> None:
        """See `KeySource.on_removal`."""
        self._removed = callback

    async def warm(self) -> bool:
        """See `KeySource.warm`."""
        if not self._by_id:
            await self._refresh()
        return bool(self._by_id)

    async def close(self) -> None:
        """Give up a fetch that is under way; safe to call twice."""
        task, self._flight = self._flight, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _may_try(self, pause_s: float) -> bool:
        return self._flight is not None or self._clock.monotonic_s() - self._tried_at_s >= pause_s

    def _start(self) -> asyncio.Task[None]:
        if self._flight is None:
            self._tried_at_s = self._clock.monotonic_s()
            self._flight = asyncio.create_task(self._load(), name="fetch keys of an issuer")
        return self._flight

    async def _refresh(self) -> None:
        # `wait` shields: one asker that gives up must not take the fetch away from the others.
        await asyncio.wait({self._start()})

    async def _load(self) -> None:
        try:
            url = self._jwks_url or await find_endpoint(self._issuer, "jwks_uri", self._fetch)
            keys = _by_id(import_jwks(await self._fetch(url)))
            if not keys:
                raise FetchError(f"{url}: holds no key that can be used")
        except Exception as error:  # nobody awaits the outcome as such, so whatever went wrong must be told here
            self._has_failed = True
            reason = str(error) if isinstance(error, FetchError) else type(error).__name__
            logger.warning("cannot get the keys of issuer %s: %s", self._issuer, reason)
        else:
            before, self._by_id = self._by_id, keys
            self._fetched_at_s = self._clock.monotonic_s()
            self._has_failed = False
            if _has_lost(before, keys):
                self._removed()
        finally:
            self._flight = None


def import_jwks(document: Mapping[str, Any]) -> list[VerifyingKey]:
    """The keys of a JSON Web Key Set (RFC 7517) that can check signatures, at most `KEYS_MAX`. Never raises.

    Key by key: one that is broken, symmetric, private, meant for something else or of a bad size is left out and
    spoils none of the others.
    """
    listed = document.get("keys")
    keys: list[VerifyingKey] = []
    for member in listed if isinstance(listed, list) else ():
        if len(keys) == KEYS_MAX:
            break
        try:
            key = _import_key(member)
        except (JoseError, Exception):  # the library raises KeyError, TypeError, ValueError, ... for odd members
            continue
        if key is not None:
            keys.append(key)
    return keys


def _import_key(member: dict[str, Any]) -> VerifyingKey | None:
    if member.get("use", "sig") != "sig" or "d" in member or not isinstance(member.get("kid", ""), str):
        return None
    if "verify" not in member.get("key_ops", ("verify",)):
        return None
    if member.get("kty") == "OKP" and member.get("alg") in ("EdDSA", "Ed25519"):
        # Two names of one algorithm (RFC 9864); issuers put either into the key and the other into the token.
        member = {name: value for name, value in member.items() if name != "alg"}
    key = JWKRegistry.import_key(member)
    if isinstance(key, RSAKey):
        return key if key.public_key.key_size in RSA_BITS else None
    if isinstance(key, OKPKey):
        return key if key.curve_name in ("Ed25519", "Ed448") else None
    return key if isinstance(key, ECKey) else None


def _by_id(keys: Iterable[VerifyingKey]) -> dict[str, list[VerifyingKey]]:
    found: dict[str, list[VerifyingKey]] = {}
    for key in keys:
        key.ensure_kid()
        found.setdefault(key.kid or "", []).append(key)
    return found


def _find(by_id: Mapping[str, Sequence[VerifyingKey]], kid: str | None) -> Sequence[VerifyingKey]:
    if kid is not None:
        return by_id.get(kid, ())
    if len(by_id) == 1:
        (keys,) = by_id.values()
        return keys if len(keys) == 1 else ()
    return ()


def _has_lost(before: Mapping[str, Sequence[VerifyingKey]], after: Mapping[str, Sequence[VerifyingKey]]) -> bool:
    def prints(by_id: Mapping[str, Sequence[VerifyingKey]]) -> set[tuple[str, str]]:
        return {(kid, key.thumbprint()) for kid, keys in by_id.items() for key in keys}

    return not prints(before) <= prints(after)


def _nothing() -> None:
    pass


def _unavailable() -> AuthError:
    return AuthError("keys_unavailable", retry_after_s=RETRY_S)
