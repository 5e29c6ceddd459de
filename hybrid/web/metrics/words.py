"""The words that labels can have. Whatever is not among them is counted as `other`, so that no series is made up."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from hybrid.engine.counts import (
    BEGUN,
    CHANNELS,
    FRESH,
    LOG_DIFFERS,
    LOG_REPLACED,
    REBUILT,
    RECOVERED,
    REFUSED,
    RESET,
    RESUMED,
    SESSION,
    TOO_OLD,
    UNKNOWN,
    UNWRITABLE,
)
from hybrid.engine.survey import CANDIDATE, STATES
from hybrid.engine.transport_counts import OTHER, TRANSPORTS
from hybrid.errors import TABLE
from hybrid.limits import Limits

ERRORS: Final = tuple(sorted(TABLE))
STREAMS: Final = tuple((transport, kind) for transport in ("websocket", "sse") for kind in (SESSION, CHANNELS))
CONNECTIONS: Final = tuple(
    (transport, kind, state) for transport, kind in STREAMS for state in STATES if kind == SESSION or state != CANDIDATE
)
ATTACHES: Final = (
    *((transport, outcome) for transport in TRANSPORTS for outcome in (FRESH, RESUMED, REBUILT)),
    (UNKNOWN, REFUSED),
)
RECOVERIES: Final = (BEGUN, RECOVERED, RESET)
RESETS: Final = (LOG_DIFFERS, LOG_REPLACED, TOO_OLD, UNWRITABLE)
TOKENS: Final = ("accepted", "remembered", "keys_unavailable", "proof_refused", "token_expired", "token_refused", OTHER)
PUBLISHED: Final = ("appended", "repeated")
LIMITS: Final = tuple(item.name for item in fields(Limits))
"""Whatever can be told as a limit that was reached."""
LIKELY_LIMITS: Final = tuple(name for name in LIMITS if name.endswith(("_max", "_max_bytes", "_per_s", "_per_s_max")))
"""Those that clients run into, shown as zero before they do; the others are intervals and shares of memory."""
PURPOSES: Final = {
    "": "asking",
    "reading": "reading",
    "durable": "durable",
    "control": "control",
    "presence": "presence",
}
"""What a connection to Redis is for, by the broker's own word; `listening` is beside them."""
LISTENING: Final = "listening"
