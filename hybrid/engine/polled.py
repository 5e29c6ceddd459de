"""A leg made of long polls: between two of them nothing is open, so it has no link and no feed."""

from __future__ import annotations

from hybrid.engine.wait import Wait
from hybrid.model import Principal
from hybrid.protocol.commands import AttachSubscription
from hybrid.protocol.session import SessionLeg


class PolledLeg(SessionLeg):
    """What is known of a polled leg between its polls."""

    transport = "longpoll"

    __slots__ = ("address", "attached_s", "delay_ms", "error", "opened", "principal", "reason", "waiting", "wanted")

    def __init__(self, principal: Principal) -> None:
        super().__init__()
        self.principal = principal
        self.wanted: list[AttachSubscription] = []  # until a sealed list comes back: its first answer may be lost
        self.opened: tuple[str, Principal, list[str]] | None = None  # a seal that was good, whose, and what it holds
        self.waiting: Wait | None = None
        self.error = ""
        self.reason = ""
        self.delay_ms = 0
        self.address = ""  # from where the last poll came
        self.attached_s = 0.0

    def begin(self) -> Wait:
        """A poll begins to wait, and an older one that still does ends. Returns what ends this one early."""
        self.wake()
        self.waiting = Wait()
        return self.waiting

    def wake(self) -> None:
        """Let the waiting poll answer now."""
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.end()

    def end(self, error: str, *, detail: str = "", delay_ms: int = 0) -> None:
        """The leg is over: the waiting poll, or the next one, says why."""
        if not self.error:
            self.error, self.reason = error, detail
        self.delay_ms = delay_ms
        self.wake()

    @property
    def channels(self) -> list[str]:
        """The channels that its last poll named, as far as this node has seen."""
        return self.opened[2] if self.opened is not None else [wanted.channel for wanted in self.wanted]
