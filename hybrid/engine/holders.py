"""Who is here by which token: what every session, stream and waiting poll says of itself, and passes over all of them.

A pass looks at 15,000 of them without holding the loop for longer than a slice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, Protocol, TypeAlias, TypeVar

from hybrid.auth.revocation import Key
from hybrid.model import Principal

_Item = TypeVar("_Item")
SLICE_S: Final = 0.002
"""Of a pass, between two looks at other work: as long as a slice of a fan-out."""

Match: TypeAlias = Callable[[Principal], Key | None]
"""Says why a principal has no business here any more; None when it has."""


class Holder(Protocol):
    """Whatever is here by a token."""

    def principals(self) -> Iterable[Principal]:
        """Those whose tokens hold it open; anonymous ones too."""

    def end_if(self, match: Match) -> Key | None:
        """End it with `forbidden_or_revoked` if its principal matches; why it did. One leg may end without the rest."""

    def send_away(self, error: str, *, reason: str, delay_ms: int) -> bool:
        """End it with this error, which `reason` explains; its client comes back after `delay_ms`, if at all.

        False: there was nothing to end, or its session sees to it.
        """

    def receive_again(self, principal: Principal) -> None:
        """The issuer was asked again about a token, and says this now: what the rights of now do not cover ends."""


async def sliced(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    """The items, with a rest for all others whenever a slice of time is over."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + SLICE_S
    for item in items:
        yield item
        if loop.time() >= until_s:
            await asyncio.sleep(0)
            until_s = loop.time() + SLICE_S
