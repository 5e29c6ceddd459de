"""What was revoked: tokens, sign-ins, subjects and clients whose tokens are refused although their time is not over.

A JWT cannot be called back, so every node knows what is not accepted any more. Four kinds, each of one issuer:

- `jti` (RFC 7519, section 4.1.7): that token, for good.
- `sid` (OpenID Connect Front-Channel Logout 1.0, section 3): all tokens of one sign-in, for good.
- `subject`, `client`: all tokens that were issued to them until now. Tokens issued later are good, so that one can sign
  in again. `iat` counts whole seconds, so a token of the very second of the revocation is refused; and so is one that
  does not say when it was issued.

It is kept for longer than tokens live (`limits.revocation_kept_s`), and never given up for want of room: past
`limits.revocations_max` no further one is taken, which whoever revokes is told. What is known here is a copy of the
store's, brought up to date by `engine.revoking`; until the store was read once, no token is accepted.
"""

from __future__ import annotations

import math
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from hybrid.auth.verifier import TokenVerifier
from hybrid.clock import Clock
from hybrid.errors import AuthError, HybridError
from hybrid.limits import Limits
from hybrid.model import Principal

Kind: TypeAlias = Literal["jti", "sid", "subject", "client"]
Key: TypeAlias = tuple[Kind, str, str]
"""What a revocation concerns: kind, issuer, value."""
KINDS: Final[tuple[Kind, ...]] = ("jti", "sid", "subject", "client")

RETRY_MIN_S: Final = 1.0
RETRY_MAX_S: Final = 5.0
"""Told while it is not known what was revoked, somewhere in between, or who came together came together again."""

_FOR_GOOD: Final = frozenset(("jti", "sid"))
_NEVER: Final = -math.inf


class Revocation(msgspec.Struct, frozen=True, gc=False):
    """One revocation. `value` is the `jti`, the `sid`, the subject or the client's id; `at_s` is Unix time."""

    kind: Kind
    issuer: str
    value: str
    at_s: float

    @property
    def key(self) -> Key:
        """What it concerns; of two with the same key the later one holds."""
        return self.kind, self.issuer, self.value


class RevocationPage(msgspec.Struct, frozen=True, gc=False):
    """A part of what the store holds, in the order of its coming.

    `cursor` reads on after it. `is_continued` False: the entry that the cursor named is not there as it was (it aged,
    came again, or the store has gone back in time), so this page is the first one of the whole.
    """

    revocations: list[Revocation]
    cursor: bytes
    is_continued: bool
    has_more: bool


class RevocationStore(Protocol):
    """What was revoked, on all nodes; implemented beside the broker.

    Each (kind, issuer, value) stands in it once, at the place of its last coming. It ends `revocation_kept_s` after it
    came, and nothing else ends it.
    """

    @property
    def is_shared(self) -> bool:
        """Whether others may have written to it before: then it has to be read before anybody is let in."""
        ...

    async def append(self, kind: Kind, issuer: str, value: str) -> Revocation:
        """Revoke, by the store's clock, and let all who listen know. Again: the later time holds.

        Raises LimitError `revocations_max` when there is no room; BrokerError, and then it may have taken effect.
        """

    async def restore(self, revocations: Sequence[Revocation]) -> None:
        """Add what the store has lost, at the times that are given; what it has stays as it is. Raises as `append`."""

    async def read(self, cursor: bytes, limit: int) -> RevocationPage:
        """At most `limit` entries that came after those a cursor stands for; empty: from the first on.

        Cancel-safe: reads only. Raises BrokerError.
        """

    async def listen(self, look: Callable[[], None], doubt: Callable[[], None]) -> None:
        """Call `look`, on the loop's thread, whenever something was added; `doubt` when something may have been missed,
        or lost, because the connection to the store broke. Neither may raise.

        Returns when nothing that is added from now on can be missed without it. Raises BrokerError.
        """


class Revocations:
    """What this node knows. Not thread-safe: one event loop.

    `is_known` is False until everything that the store holds was read once; until then nobody can say that a token was
    not revoked.
    """

    def __init__(self, limits: Limits, clock: Clock, draw: Callable[[float, float], float] = random.uniform) -> None:
        """`draw` gives a number between two others."""
        self._kept_s = limits.revocation_kept_s
        self._clock = clock
        self._draw = draw
        # By their time, oldest first, so that what is over is found at the front.
        self._at_s: OrderedDict[Key, float] = OrderedDict()
        self.is_known = False

    def __len__(self) -> int:
        return len(self._at_s)

    def add(self, revocation: Revocation) -> bool:
        """Know of one more; False where that changes nothing. `expire` forgets it in time."""
        key, at_s = revocation.key, revocation.at_s
        known_s = self._at_s.get(key)
        if (known_s is not None and known_s >= at_s) or at_s + self._kept_s <= self._clock.wall_s():
            return False
        self._at_s[key] = at_s
        self._at_s.move_to_end(key)
        return True

    def find(self, kind: Kind, issuer: str, value: str) -> Revocation | None:
        """The one that is known of this key."""
        at_s = self._at_s.get((kind, issuer, value))
        return None if at_s is None else Revocation(kind, issuer, value, at_s)

    def all(self) -> list[Revocation]:
        """All that are known."""
        return self.beside(())

    def beside(self, keys: Collection[Key]) -> list[Revocation]:
        """All that are known but for those with these keys."""
        return [Revocation(*key, at_s) for key, at_s in self._at_s.items() if key not in keys]

    def expire(self) -> None:
        """Forget those whose time is over: tokens that old are over themselves."""
        end_s = self._clock.wall_s() - self._kept_s
        while self._at_s:
            key = next(iter(self._at_s))
            if self._at_s[key] > end_s:
                break
            del self._at_s[key]

    def match(self, principal: Principal) -> Key | None:
        """Why the token that this principal comes from is not accepted any more, None if it is: four look-ups at most.

        Somebody anonymous has shown no token, so there is none that could be revoked.
        """
        known = self._at_s
        issuer = principal.issuer
        if not known or not issuer:
            return None
        key: Key = ("jti", issuer, principal.token_id)
        if principal.token_id and key in known:
            return key
        key = ("sid", issuer, principal.sign_in)
        if principal.sign_in and key in known:
            return key
        issued_s = math.floor(principal.issued_at_s)  # 0 where the token does not say
        key = ("subject", issuer, principal.subject)
        if issued_s <= known.get(key, _NEVER):
            return key
        key = ("client", issuer, principal.client)
        if principal.client and issued_s <= known.get(key, _NEVER):
            return key
        return None

    def is_revoked(self, principal: Principal) -> bool:
        """Whether the token that this principal comes from is not accepted any more."""
        return self.match(principal) is not None

    def check(self, principal: Principal) -> None:
        """Raises AuthError `forbidden_or_revoked` for a principal that came in before, and was revoked meanwhile."""
        if self.is_revoked(principal):
            raise AuthError("forbidden_or_revoked")

    def check_shown(self, principal: Principal) -> None:
        """Raises AuthError `token_refused` (401) for one whose credential is shown now; and as `check_known`."""
        self.check_known()
        if self.is_revoked(principal):
            raise AuthError("token_refused")

    def check_known(self) -> None:
        """Raises AuthError `keys_unavailable` (503) while nobody can say whether a token was revoked."""
        if not self.is_known:
            detail = "Tokens cannot be checked now: what was revoked is not known yet."
            raise AuthError("keys_unavailable", detail, retry_after_s=round(self._draw(RETRY_MIN_S, RETRY_MAX_S), 3))


class RevocationVerifier:
    """A `TokenVerifier` around another one, whose successes are refused once they are revoked, cached ones too."""

    def __init__(self, inner: TokenVerifier, revocations: Revocations) -> None:
        self._inner = inner
        self._revocations = revocations
        self.outcomes: Counter[str] = Counter()
        """How tokens were judged since the start: `remembered`, `accepted`, or the name of an error."""

    def cached(self, token: str, proven_key: str = "") -> Principal | None:
        """See `TokenVerifier.cached`."""
        if not self._revocations.is_known:
            return None
        principal = self._inner.cached(token, proven_key)
        if principal is None or self._revocations.is_revoked(principal):
            return None
        self.outcomes["remembered"] += 1
        return principal

    async def verify(self, token: str, proven_key: str = "") -> Principal:
        """See `TokenVerifier.verify`. Nothing is awaited between the last look and the return."""
        try:
            self._revocations.check_known()
            principal = await self._inner.verify(token, proven_key)
            self._revocations.check_shown(principal)
        except HybridError as error:
            self.outcomes[error.row.name] += 1
            raise
        self.outcomes["accepted"] += 1
        return principal

    async def close(self) -> None:
        """See `TokenVerifier.close`."""
        await self._inner.close()


def holds_already(known: Revocation, now_s: float, kept_s: float) -> bool:
    """Whether revoking the same again would change nothing worth telling.

    For a subject or a client that is so within one second; for what is refused for good, while it is far from its end.
    """
    if known.kind in _FOR_GOOD:
        return now_s - known.at_s < kept_s / 2
    return math.floor(known.at_s) == math.floor(now_s)
