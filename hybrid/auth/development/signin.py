"""A sign-in: who allowed which client what, and every token that came of it. What ends together hangs on it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

SUBJECT_MAX_CHARACTERS: Final = 64
"""Of a name that somebody signs in with or a client asks for."""


class Revocation(NamedTuple):
    """What a resource server has to know when tokens end before their time. Either id may be empty, never both.

    `session_id` (`sid`) ends every token of a sign-in; `token_id` (`jti`) ends one token.
    """

    token_id: str = ""
    session_id: str = ""


@dataclass(eq=False, slots=True)
class SignIn:
    """One sign-in. `scope` is what was consented to: a refresh may ask for less, never for more."""

    subject: str
    client_id: str
    scope: str
    lifetime_s: float
    session_id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    is_over: bool = False

    def end(self, tell: Callable[[Revocation], None]) -> None:
        """Revoke everything that came of it, once."""
        if not self.is_over:
            self.is_over = True
            tell(Revocation(session_id=self.session_id))


def read_subject(text: str) -> str | None:
    """A name as it was typed, without the space around it; None for one that cannot be used.

    At most `SUBJECT_MAX_CHARACTERS` printable characters: it becomes `sub`, and stands on pages and in logs.
    """
    name = text.strip()
    return name if 0 < len(name) <= SUBJECT_MAX_CHARACTERS and name.isprintable() else None


def guest() -> str:
    """A name for who did not give one."""
    return f"guest-{secrets.token_hex(4)}"
