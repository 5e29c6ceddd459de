"""What an embedding application may decide in Python, where scopes, claims and rules cannot say it.

Two places. `GrantsHook` is asked once for each token, when it has been verified, and may take its time: ask a database,
say. What it grants is kept with the token, as long as the token is. `AuthoriseHook` is asked at every gate, about one
action on one channel, and must answer at once.

An error in a hook denies: nobody gets in because something broke.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from hybrid.auth.grants import GRANTS_MAX, Action
from hybrid.errors import AuthError, HybridError
from hybrid.model import Grant, Principal

_log = logging.getLogger(__name__)

HOOK_TIMEOUT_S: Final = 5.0
"""For one answer of a `GrantsHook`: as long as an issuer's keys are waited for."""

GrantsHook: TypeAlias = Callable[[Principal, Mapping[str, Any]], Awaitable[Iterable[Grant]]]
"""Called with the principal and the token's claims; what it returns is all that the principal may do."""
AuthoriseHook: TypeAlias = Callable[[Principal, Action, str], bool | None]
"""Called with principal, action and channel. True permits, False denies; None leaves it to the namespace's rule."""
Finish: TypeAlias = Callable[[Principal, Mapping[str, Any]], Awaitable[Principal]]
"""The last step of checking a token."""


class Verdict(NamedTuple):
    """The word of a backend on one action on one channel. `detail` is for the client.

    `retry_after_s`: the backend gave no answer, which permits nothing and says nothing; ask again after so long.
    """

    is_allowed: bool
    detail: str = ""
    retry_after_s: float | None = None


class Asked(Protocol):
    """Who is asked about channels whose namespace says "hook"."""

    def known(self, principal: Principal, action: Action, channel: str) -> Verdict | None:
        """What it has said, where that is still good."""

    async def ask(self, principal: Principal, action: Action, channels: Sequence[str]) -> None:
        """Have it asked about each: `known` holds a verdict on all of them for a moment afterwards.

        Never raises. Cancel-safe.
        """


def in_turn(first: Finish, then: Finish) -> Finish:
    """Both steps; the second is given what the first has made of the principal."""

    async def finish(principal: Principal, claims: Mapping[str, Any]) -> Principal:
        return await then(await first(principal, claims), claims)

    return finish


async def as_it_is(principal: Principal, claims: Mapping[str, Any]) -> Principal:
    """The principal, unchanged: there is no hook."""
    return principal


def finish_with(hook: GrantsHook) -> Finish:
    """The last step with a hook: raises AuthError keys_unavailable when that is late, HybridError when it fails."""

    async def finish(principal: Principal, claims: Mapping[str, Any]) -> Principal:
        try:
            async with asyncio.timeout(HOOK_TIMEOUT_S):
                grants = tuple(await hook(principal, claims))
        except TimeoutError:
            _log.error("the hook for grants did not answer within %g s", HOOK_TIMEOUT_S)
            raise AuthError("keys_unavailable", retry_after_s=1.0) from None
        except HybridError:
            raise
        except Exception:
            _log.exception("the hook for grants failed")
            raise HybridError("internal") from None
        if len(grants) > GRANTS_MAX or not all(isinstance(grant, Grant) for grant in grants):
            _log.error("the hook for grants must return at most %d of hybrid.Grant", GRANTS_MAX)
            raise HybridError("internal")
        return msgspec.structs.replace(principal, grants=grants)

    return finish
