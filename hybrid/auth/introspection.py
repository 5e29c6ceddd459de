"""Opaque access tokens, and others that only their issuer can judge: it is asked about each (RFC 7662).

Answers are remembered for seconds, under the SHA-256 of the whole token: yes for `POSITIVE_S`, no for `NEGATIVE_S`, so
that neither a reconnect storm nor somebody who tries the same text again and again becomes one at the issuer. Many
askers about one token share one question. An issuer that cannot be asked is "not now" (503), which is not remembered.

A session lives much longer than that. So the tokens that are live here can be asked about again (`recheck`), for which
they are kept, in memory only and never shown.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from hybrid.auth.claims import ClaimsReader, Refusal, time_of
from hybrid.auth.discovery import find_endpoint
from hybrid.auth.fetch import FetchError, JsonFetcher
from hybrid.auth.hooks import Finish, as_it_is
from hybrid.auth.rules import GrantRule
from hybrid.clock import Clock
from hybrid.errors import AuthError
from hybrid.limits import Limits
from hybrid.model import Principal

logger = logging.getLogger(__name__)

POSITIVE_S: Final = 30.0
"""How long a yes counts, unless the token ends sooner: who was revoked at the issuer can still connect that long."""
NEGATIVE_S: Final = 5.0
"""How long a no counts: a token that is active only in a moment is rare, somebody who tries again is not."""
REMEMBERED_MAX: Final = 20_000
"""Answers of each kind that are remembered."""
ASKED_MAX: Final = 256
"""Questions that are open at once; whoever comes then is told to come again. More than one address may have in the

doorway (`limits.unauthenticated_per_address_max`), or one alone could keep all others out while the issuer is slow.
"""
RETRY_S: Final = 2.0
ENTERING_S: Final = 30.0
"""For so long after a token was shown it is kept though nothing holds it: what it opens may still be on its way in."""
UNSEEN_MAX_S: Final = 600.0
"""How long a session may live by an introspected token that was never shown at its node, which cannot ask about it

again: it was opened with a ticket, or its refresh came in at another node. Then the token has to be shown once more.
"""
HASH_BYTES: Final = 16
"""Of a token's SHA-256, as principals hold it."""

Post = Callable[[str, Mapping[str, str]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class IntrospectionConfig:
    """How to ask one issuer about tokens.

    `url` None means: ask its metadata. `client_id` and `client_secret` are ours at the issuer (RFC 7662, section 2.1,
    wants the asker authenticated). `audience` must be in the answer's `aud`; an answer without one is refused unless
    `requires_audience` is off, for the token may be for another service. The rest is as in `jwt.IssuerConfig`.
    """

    issuer: str
    audience: str
    client_id: str
    client_secret: str = field(repr=False)
    url: str | None = None
    requires_audience: bool = True
    scope_claim: str = "scope"
    channels_claim: str = ""
    rules: tuple[GrantRule, ...] = ()
    http_hosts: frozenset[str] = frozenset()


class _Answer:
    """A yes, with the token it is about: kept to be able to ask again. Without a `repr` that could show it."""

    __slots__ = ("claims", "principal", "token", "until_s")

    def __init__(self, token: str, principal: Principal, claims: Mapping[str, Any], until_s: float) -> None:
        self.token = token
        self.principal = principal
        self.claims = claims
        self.until_s = until_s


class Introspector:
    """A `TokenVerifier` that asks, and a `Rechecker`. Belongs to one event loop."""

    def __init__(
        self,
        config: IntrospectionConfig,
        clock: Clock,
        limits: Limits,
        *,
        leeway_s: float = 30.0,
        finish: Finish = as_it_is,
        post: Post | None = None,
    ) -> None:
        """`post` replaces the network: it is given the URL and the form."""
        self._config = config
        self._clock = clock
        self._token_max = limits.token_max_bytes
        self._leeway_s = leeway_s
        self._finish = finish
        self._fetcher = JsonFetcher(http_hosts=config.http_hosts, connections_max=ASKED_MAX + 16, kept_max=4)
        self._post = post or self._ask_issuer
        self._url = config.url
        self._reader = ClaimsReader(
            config.issuer,
            scope_claim=config.scope_claim,
            channels_claim=config.channels_claim,
            rules=config.rules,
        )
        self._yes: OrderedDict[bytes, _Answer] = OrderedDict()
        self._no: OrderedDict[bytes, float] = OrderedDict()
        # Of sessions here: the hash that a principal holds -> the token, and when it was shown last.
        self._live: dict[bytes, tuple[str, float]] = {}
        self._asking: dict[bytes, asyncio.Task[_Answer | None]] = {}

    def cached(self, token: str, proven_key: str = "") -> Principal | None:
        """See `TokenVerifier.cached`."""
        if len(token) > self._token_max or not token.isascii():
            return None
        answer = self._yes.get(_digest(token))
        if answer is None or answer.until_s <= self._clock.wall_s() or answer.principal.proof_key != proven_key:
            return None
        self._live[answer.principal.token_hash] = (token, self._clock.monotonic_s())
        return answer.principal

    async def verify(self, token: str, proven_key: str = "") -> Principal:
        """See `TokenVerifier.verify`. `keys_unavailable` when the issuer cannot be asked now."""
        if len(token) > self._token_max or not token.isascii() or not token.isprintable():
            raise AuthError("token_refused")
        if (principal := self.cached(token, proven_key)) is not None:
            return principal
        digest = _digest(token)
        if self._no.get(digest, 0.0) > self._clock.wall_s():
            raise AuthError("token_refused")
        answer = await self._answer(digest, token)
        if answer is None or answer.principal.proof_key != proven_key:
            raise AuthError("token_refused")
        if answer.principal.expires_at_s <= self._clock.wall_s():
            raise AuthError("token_expired")
        self._live[answer.principal.token_hash] = (token, self._clock.monotonic_s())
        return answer.principal

    async def recheck(self, token_hash: bytes) -> Principal | None:
        """Ask again about a live token, by the hash that its principal holds; None when it is not active any more.

        Raises AuthError keys_unavailable, also for a token that was never shown here: its session came with a ticket,
        which does not live long (`UNSEEN_MAX_S`). Cancel-safe.
        """
        live = self._live.get(token_hash)
        if live is None:
            raise _unavailable()
        token, _ = live
        # Whoever calls has a bound of his own: strangers that ask about made-up tokens must not keep sessions alive.
        answer = await self._answer(_digest(token), token, is_bounded=False)
        return None if answer is None else answer.principal

    def keep(self, token_hashes: set[bytes]) -> None:
        """These tokens are live; forget all others, but for those that were shown just now (`ENTERING_S`)."""
        old_s = self._clock.monotonic_s() - ENTERING_S
        self._live = {
            key: (token, shown_s)
            for key, (token, shown_s) in self._live.items()
            if key in token_hashes or shown_s > old_s
        }

    def forget_all(self) -> None:
        """Forget what was answered: the next use of each token asks again."""
        self._yes.clear()
        self._no.clear()

    async def close(self) -> None:
        """Give up open questions and release connections; safe to call twice."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._live.clear()
        await self._fetcher.close()

    # -- inside

    async def _answer(self, digest: bytes, token: str, *, is_bounded: bool = True) -> _Answer | None:
        task = self._asking.get(digest)
        if task is None:
            if is_bounded and len(self._asking) >= ASKED_MAX:
                raise _unavailable()
            task = self._asking[digest] = asyncio.get_running_loop().create_task(self._ask(digest, token))
            task.add_done_callback(lambda done: self._asked(digest, done))
        # `wait` shields: one asker that gives up must not take the answer away from the others.
        await asyncio.wait({task})
        if task.cancelled():
            raise _unavailable()
        return task.result()

    def _asked(self, digest: bytes, task: asyncio.Task[_Answer | None]) -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # retrieved, though all who asked may have gone

    async def _ask(self, digest: bytes, token: str) -> _Answer | None:
        self._yes.pop(digest, None)
        try:
            url = self._url = self._url or await self._discovered()
            claims = await self._post(url, {"token": token, "token_type_hint": "access_token"})
        except FetchError as error:
            logger.warning("issuer %s cannot be asked about tokens: %s", self._config.issuer, error)
            raise _unavailable() from None
        now_s = self._clock.wall_s()
        try:
            principal = self._judged(claims, token, now_s)
        except Refusal as refusal:
            logger.debug("token refused: %s", refusal)
            principal = None
        except Exception as error:  # whatever shape the answer has
            logger.debug("token refused: %s", type(error).__name__)
            principal = None
        if principal is None:
            _remember(self._no, digest, now_s + NEGATIVE_S)
            return None
        principal = await self._finish(principal, claims)
        answer = _Answer(token, principal, claims, min(now_s + POSITIVE_S, principal.expires_at_s))
        _remember(self._yes, digest, answer)
        return answer

    def _judged(self, claims: Mapping[str, Any], token: str, now_s: float) -> Principal | None:
        """Whom an answer speaks for; None for a token that is not active (RFC 7662, section 2.2). Raises Refusal."""
        if claims.get("active") is not True:
            return None
        if "iss" in claims and claims["iss"] != self._config.issuer:
            raise Refusal("of another issuer")
        audience = claims.get("aud", None if self._config.requires_audience else self._config.audience)
        if self._config.audience not in (audience if isinstance(audience, list) else [audience]):
            raise Refusal("for another audience")
        if time_of(claims, "nbf", 0.0) > now_s + self._leeway_s:
            raise Refusal("not valid yet")
        if claims.get("token_type", "Bearer") in ("refresh_token", "id_token"):
            raise Refusal("not an access token by its type")
        principal = self._reader.principal(claims, token, is_introspected=True)
        if principal.expires_at_s + self._leeway_s <= now_s:
            return None
        return principal

    async def _discovered(self) -> str:
        return await find_endpoint(self._config.issuer, "introspection_endpoint", self._fetcher.get)

    async def _ask_issuer(self, url: str, form: Mapping[str, str]) -> dict[str, Any]:
        config = self._config
        return await self._fetcher.post(url, form, user=config.client_id, password=config.client_secret)


def _remember(kept: OrderedDict[bytes, Any], digest: bytes, value: Any) -> None:
    kept[digest] = value
    kept.move_to_end(digest)
    if len(kept) > REMEMBERED_MAX:
        kept.popitem(last=False)


def _digest(token: str) -> bytes:
    return sha256(token.encode("ascii")).digest()


def _unavailable() -> AuthError:
    return AuthError("keys_unavailable", retry_after_s=RETRY_S)
