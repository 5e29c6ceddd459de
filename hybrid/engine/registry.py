"""The sessions that this process knows, by id."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hybrid.errors import LimitError
from hybrid.model import Principal
from hybrid.protocol.states import SessionState

if TYPE_CHECKING:
    from hybrid.engine.runner import SessionRunner


RETRY_MIN_S: Final = 2.5
RETRY_MAX_S: Final = 10.0
"""Told to whoever comes to a full process, somewhere in between: clients come at the very moment they are told, and
those who came together must not come together again."""


class Registry:
    """Bounded. Losing an entry costs a client nothing but the work of a fresh attach."""

    def __init__(self, sessions_max: int, draw: Callable[[float, float], float] = random.uniform) -> None:
        """`draw` gives a number between two others."""
        self._sessions_max = sessions_max
        self._draw = draw
        self._runners: dict[str, SessionRunner] = {}

    def __len__(self) -> int:
        return len(self._runners)

    def find(self, session_id: str, principal: Principal) -> SessionRunner | None:
        """The session, if it is known here and of the same party; the two refusals cannot be told apart."""
        runner = self._runners.get(session_id)
        if runner is None or not runner.session.principal.is_same_party(principal):
            return None
        return None if runner.session.state is SessionState.CLOSED else runner

    def get(self, session_id: str) -> SessionRunner | None:
        """The session, whoever's it is."""
        return self._runners.get(session_id)

    def is_free(self, session_id: str) -> bool:
        """Whether nobody here has this id."""
        return session_id not in self._runners

    def add(self, runner: SessionRunner) -> None:
        """Raises LimitError when the process is full of sessions that have a leg."""
        if len(self._runners) >= self._sessions_max:
            oldest = next((r for r in self._runners.values() if r.session.state is SessionState.DETACHED), None)
            if oldest is None:
                retry_after_s = round(self._draw(RETRY_MIN_S, RETRY_MAX_S), 3)
                raise LimitError("sessions_max", name="rate_limited", retry_after_s=retry_after_s)
            oldest.end("session_unknown")
        self._runners[runner.session.id] = runner

    def forget(self, runner: SessionRunner) -> None:
        """The session is over."""
        self._runners.pop(runner.session.id, None)

    def runners(self) -> list[SessionRunner]:
        """All of them, oldest first."""
        return list(self._runners.values())
