"""No client of a measurement is refused for coming or asking as fast as it can: that is what is measured."""

from __future__ import annotations

from typing import Final

UNLIMITED: Final[dict[str, float]] = {
    "admissions_per_s": 1e6,
    "connects_per_s": 1e6,
    "commands_per_s": 1e6,
    "publishes_per_s": 1e6,
    "links_per_address_max": 1_000_000,
    "links_per_principal_max": 1_000_000,
    "idempotency_keys_max": 20_000_000,  # all of a run may come within the window
}
