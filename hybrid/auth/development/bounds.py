"""How long things live here and how many of them are kept, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Lifetimes and sizes. Past a size the oldest entry goes, which fails closed: what is not kept is not accepted."""

    code_lifetime_s: float = 60.0  # of an authorization code: one redirect (RFC 6749, section 4.1.2: at most 10 min)
    codes_max: int = 1_000
    refresh_lifetime_s: float = 86_400.0  # of one refresh token, from its making: a working day, and the night
    refresh_tokens_max: int = 20_000  # used ones included: they are kept to know a replay when it comes
    spent_codes_max: int = 10_000  # for as long as a refresh token made from one may live, for the same reason
    access_tokens_max: int = 20_000  # for introspection and revocation; a JWT works without being kept
    device_lifetime_s: float = 600.0  # of a device code: to find a browser and type eight letters
    device_interval_s: float = 5.0  # between two polls of a device (RFC 8628, section 3.2: the default)
    device_slow_down_s: float = 5.0  # added for each poll that comes too early (RFC 8628, section 3.5)
    devices_max: int = 1_000
    guesses_max: int = 10  # wrong user codes, from all browsers together ...
    guesses_window_s: float = 60.0  # ... within this time; then none is looked at (RFC 8628, section 5.1)
