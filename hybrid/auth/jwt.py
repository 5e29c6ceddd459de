"""JWT access tokens (RFC 9068) of configured issuers, checked with joserfc and Authlib's claim classes (RFC 8725).

What is wrong with a token is never told: whoever made it up would learn from the answer. The log says it at DEBUG, in
words of ours, without anything from the token. Order matters: length and shape come before any decoding, the issuer
must be configured before a key is looked for, and no claim is believed before the signature holds.
"""

from __future__ import annotations

import json
import logging
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from authlib.oauth2.rfc9068.claims import JWTAccessTokenClaims  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jws import JWSRegistry

from hybrid.auth.claims import ClaimsReader, Refusal, time_of, token_hash
from hybrid.auth.fetch import JsonFetcher
from hybrid.auth.hooks import Finish, as_it_is
from hybrid.auth.keys import KeySource, KeyStore, VerifyingKey
from hybrid.auth.rules import GrantRule
from hybrid.clock import Clock
from hybrid.errors import AuthError, SettingsError
from hybrid.limits import Limits
from hybrid.model import Principal

logger = logging.getLogger(__name__)

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519")
"""Accepted unless an issuer's settings say less; EdDSA is the old name of Ed25519 and still sent."""
LEEWAY_S: Final = 30
"""By how much the clocks of issuer and server may differ."""
CACHE_MAX: Final = 20_000
"""Principals of verified tokens that are kept: more than one process has links."""
HEADER_MAX_BYTES: Final = 2_048
"""Of a token's decoded header; some issuers send a certificate's thumbprints along."""

_FORGOTTEN_SHARE: Final = 16  # of a full cache, the oldest, make room

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TYPES: Final = ("at+jwt", "application/at+jwt")
_PINNABLE: Final = frozenset((*ALGORITHMS, "RS384", "RS512", "PS384", "PS512", "ES512", "Ed448"))


@dataclass(frozen=True, slots=True)
class IssuerConfig:
    """One issuer whose tokens are accepted.

    `issuer` is compared with `iss` exactly. `audience` is our own name as this issuer writes it, where it uses another
    than the verifier's. Its keys are `keys` if given, else fetched from `jwks_url`, else from where its metadata says.
    `requires_typ` False accepts tokens without the `at+jwt` type, for issuers that do not send it;
    then any JWT of that issuer for our audience counts, an ID token too. `scope_claim` names the claim that holds the
    scopes: a string, or a list of strings; `channels_claim` the one that lists channels (see `claims.ClaimsReader`);
    `rules` grant by other means. `http_hosts` may be asked over plain http, by exact host name.
    """

    issuer: str
    audience: str | None = None
    jwks_url: str | None = None
    algorithms: tuple[str, ...] = ALGORITHMS
    requires_typ: bool = True
    scope_claim: str = "scope"
    channels_claim: str = ""
    rules: tuple[GrantRule, ...] = ()
    http_hosts: frozenset[str] = frozenset()
    keys: KeySource | None = None


class _Issuer:
    """A configured issuer with what is needed to check its tokens."""

    def __init__(self, config: IssuerConfig, clock: Clock) -> None:
        unknown = set(config.algorithms) - _PINNABLE
        if unknown or not config.algorithms or not config.issuer:
            raise SettingsError(
                detail=f"issuer {config.issuer!r}: it needs a name and asymmetric algorithms; "
                f"not usable: {', '.join(sorted(unknown)) or 'none'}."
            )
        self.config = config
        self.registry = _Registry(config.algorithms)
        self.reader = ClaimsReader(
            config.issuer,
            scope_claim=config.scope_claim,
            channels_claim=config.channels_claim,
            rules=config.rules,
        )
        self.fetcher: JsonFetcher | None = None
        if config.keys is not None:
            self.keys = config.keys
        else:
            self.fetcher = JsonFetcher(http_hosts=config.http_hosts)
            self.keys = KeyStore(config.issuer, self.fetcher.get, clock, jwks_url=config.jwks_url)


class _Registry(JWSRegistry):
    """Pinned algorithms, and room for the headers that real issuers send."""

    def __init__(self, algorithms: Sequence[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)
        self.max_header_length = HEADER_MAX_BYTES

    def get_alg(self, name: str) -> Any:
        # The base class warns at every use of an algorithm whose *name* is out of fashion; ours are pinned on purpose.
        if not self.allowed or name not in self.allowed:
            raise Refusal("an algorithm that is not allowed")
        return self.algorithms[name]


class JwtVerifier:
    """A `TokenVerifier` for JWT access tokens. Belongs to one event loop.

    A success is remembered under the principal's `token_hash` until the token's `exp`, at most `cache_max` of them: a
    full cache forgets its oldest sixteenth. All are forgotten when an issuer withdraws a key. Failures are not
    remembered: the key may arrive in a second.
    """

    def __init__(
        self,
        issuers: Sequence[IssuerConfig],
        audience: str,
        clock: Clock,
        limits: Limits,
        *,
        leeway_s: int = LEEWAY_S,
        cache_max: int = CACHE_MAX,
        finish: Finish = as_it_is,
    ) -> None:
        """`audience` is our own name as the issuers write it into `aud`. Raises SettingsError."""
        if not audience or any(config.audience == "" for config in issuers):
            raise SettingsError(detail="The audience is empty; tokens made for other services would be accepted.")
        self._issuers = {config.issuer: _Issuer(config, clock) for config in issuers}
        if len(self._issuers) != len(issuers):
            raise SettingsError(detail="The same issuer is configured twice.")
        for issuer in self._issuers.values():
            issuer.keys.on_removal(self.forget_all)
        self._audience = audience
        self._clock = clock
        self._token_max = limits.token_max_bytes
        self._leeway_s = leeway_s
        self._cache_max = cache_max
        self._finish = finish
        self._cache: dict[bytes, Principal] = {}  # not an OrderedDict: 130 bytes less for each client
        self._life = 0  # of the cache: how often it was emptied

    def cached(self, token: str, proven_key: str = "") -> Principal | None:
        """See `TokenVerifier.cached`."""
        if len(token) > self._token_max or not token.isascii():
            return None
        principal = self._cache.get(token_hash(token))
        if principal is None or principal.expires_at_s <= self._clock.wall_s() or principal.proof_key != proven_key:
            return None
        return principal

    async def verify(self, token: str, proven_key: str = "") -> Principal:
        """See `TokenVerifier.verify`."""
        try:
            # The pattern lets ASCII only through, so characters are bytes from here on.
            if len(token) > self._token_max or not _COMPACT.fullmatch(token):
                raise Refusal("too long, or not a JWT")
            if (principal := self.cached(token, proven_key)) is not None:
                return principal
            header = _decoded(token[: token.index(".")])
            issuer = self._issuers.get(_issuer_of(token))
            if issuer is None:
                raise Refusal("an issuer that is not configured")
            kid = _checked_header(header, issuer.config)
            life = self._life
            keys = await issuer.keys.find(kid)
            claims = _verified_claims(token, keys, issuer.registry)
            is_expired = self._validate(claims, issuer.config)
            principal = issuer.reader.principal(claims, token)
            if principal.proof_key != proven_key:
                # RFC 9449, section 7.1: a stolen token is of no use without its key.
                raise Refusal("bound to another key than was proven, or to none")
        except AuthError:
            raise
        except Refusal as refusal:
            logger.debug("token refused: %s", refusal)
            raise AuthError("token_refused") from None
        except Exception as error:  # hostile headers make the libraries raise TypeError and others
            logger.debug("token refused: %s", type(error).__name__)
            raise AuthError("token_refused") from None
        if is_expired:
            raise AuthError("token_expired")
        principal = await self._finish(principal, claims)
        if life == self._life:  # its key was not withdrawn while the hook was asked
            self._remember(principal)
        return principal

    def forget_all(self) -> None:
        """Forget every success: the next use of each token checks it again."""
        self._cache.clear()
        self._life += 1

    async def warm(self) -> bool:
        """Fetch the keys of every issuer before the first client comes; False if some could not be had. Cancel-safe."""
        return all([await issuer.keys.warm() for issuer in self._issuers.values()])

    async def close(self) -> None:
        """Release connections; safe to call twice."""
        for issuer in self._issuers.values():
            await issuer.keys.close()
            if issuer.fetcher is not None:
                await issuer.fetcher.close()

    def _validate(self, claims: dict[str, Any], config: IssuerConfig) -> bool:
        """Raise unless the claims are in order; True if they are but for an `exp` that is over."""
        now_s = int(self._clock.wall_s())
        try:
            self._validate_at(claims, config, now_s)
        except ExpiredTokenError:
            # Checking stops at the first fault; look at the others as if the token had a little time left.
            self._validate_at({**claims, "exp": now_s + 1}, config, now_s)
            return True
        return False

    def _validate_at(self, claims: dict[str, Any], config: IssuerConfig, now_s: int) -> None:
        time_of(claims, "exp", 0.0)
        JWTAccessTokenClaims(
            claims,
            {},  # the type has been judged, by the issuer's settings
            {
                "iss": {"essential": True, "value": config.issuer},
                "aud": {"essential": True, "value": config.audience or self._audience},
                "exp": {"essential": True},
                "iat": {"essential": True},
                "sub": {"essential": True},
            },
        ).validate(now=now_s, leeway=self._leeway_s)

    def _remember(self, principal: Principal) -> None:
        if principal.expires_at_s <= self._clock.wall_s():
            return  # within the leeway
        if len(self._cache) >= self._cache_max:
            # Many at once: to find its first, a dict walks over all that it has lost in front.
            for oldest in list(islice(self._cache, max(1, self._cache_max // _FORGOTTEN_SHARE))):
                del self._cache[oldest]
        self._cache[principal.token_hash] = principal


def _decoded(segment: str) -> dict[str, Any]:
    """The JSON object in one base64url segment, which must be in its one canonical spelling (RFC 4648, section 3.5).

    Otherwise one signature would have several texts, and a token could change its hash without losing its validity.
    """
    members = json.loads(_bytes(segment))
    if not isinstance(members, dict):
        raise Refusal("a segment that is no JSON object")
    return members


def _bytes(segment: str) -> bytes:
    raw = segment.encode("ascii")
    decoded = urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    if urlsafe_b64encode(decoded).rstrip(b"=") != raw:
        raise Refusal("base64 that is not canonical")
    return decoded


def _issuer_of(token: str) -> str:
    """The issuer that the token claims to be from: only ever compared with the configured ones."""
    _, payload, signature = token.split(".")
    _bytes(signature)
    issuer = _decoded(payload).get("iss")
    if not isinstance(issuer, str):
        raise Refusal("no issuer")
    return issuer


def _checked_header(header: dict[str, Any], config: IssuerConfig) -> str | None:
    """The key id in a header that is in order."""
    if header.get("alg") not in config.algorithms:
        raise Refusal("an algorithm that is not allowed")
    if "crit" in header or "b64" in header:
        raise Refusal("an extension of JWS that is not supported")
    kind = header.get("typ")
    if config.requires_typ and (not isinstance(kind, str) or kind.lower() not in _TYPES):
        raise Refusal("not an access token by its type")
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise Refusal("a key id that is no text")
    return kid


def _verified_claims(token: str, keys: Sequence[VerifyingKey], registry: JWSRegistry) -> dict[str, Any]:
    for key in keys:
        try:
            return jwt.decode(token, key, registry=registry).claims
        except JoseError:
            continue  # another key may have the same id
    raise Refusal("no key that fits, or a bad signature")
