"""Who is told what happens here: sessions that come and go, channels that begin and cease to be followed.

Called on the event loop's thread, once for each, never for a publication. Must not raise and must not wait.
"""

from __future__ import annotations

from typing import Final, Protocol

from hybrid.model import Principal


class Observer(Protocol):
    """See the module's text."""

    def session_opened(self, session: str, principal: Principal, transport: str) -> None:
        """A leg of a session that this node began is confirmed; again for each further one."""

    def session_closed(self, session: str, principal: Principal, reason: str) -> None:
        """A session is over; also one that had no confirmed leg. `reason`: an error's name, "left" or "lost"."""

    def channel_followed(self, channel: str) -> None:
        """Somebody here reads the channel, and nobody did."""

    def channel_left(self, channel: str) -> None:
        """Nobody here has read the channel for `channel_linger_s`."""


class _Nobody:
    __slots__ = ()

    def session_opened(self, session: str, principal: Principal, transport: str) -> None:
        """Not told."""

    def session_closed(self, session: str, principal: Principal, reason: str) -> None:
        """Not told."""

    def channel_followed(self, channel: str) -> None:
        """Not told."""

    def channel_left(self, channel: str) -> None:
        """Not told."""


NOBODY: Final = _Nobody()
"""Is told nothing."""
