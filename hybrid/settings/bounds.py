"""Which bounds make no sense, alone or beside another one."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Final

from hybrid.limits import Limits
from hybrid.settings.words import refusal

WORKER_SILENCE_MIN_S: Final = 3.0


def check_limits(limits: Limits) -> None:
    """Raises SettingsError for bounds that make no sense."""
    for item in fields(Limits):
        value = getattr(limits, item.name)
        if not 0 < value < math.inf:
            raise refusal(f"limits.{item.name} must be positive, not {value}.")
    for smaller, larger, may_be_equal in (
        ("low_water_bytes", "high_water_bytes", False),
        ("data_max_bytes", "command_max_bytes", False),
        ("command_max_bytes", "body_max_bytes", True),
        ("attach_max_bytes", "body_max_bytes", True),
        ("token_max_bytes", "auth_frame_max_bytes", False),
        ("ring_max_bytes", "rings_max_bytes", True),
        ("unauthenticated_per_address_max", "unauthenticated_max", True),
        ("accepts_per_s", "admissions_per_s", True),
        ("channels_per_request_max", "channels_per_session_max", True),
        ("lag_resume_s", "lag_max_s", False),
        ("bodies_per_address_max_bytes", "bodies_max_bytes", True),
        ("body_max_bytes", "bodies_per_address_max_bytes", True),
        ("high_water_bytes", "buffered_max_bytes", True),
    ):
        low, high = getattr(limits, smaller), getattr(limits, larger)
        if low > high or (low == high and not may_be_equal):
            at_most = "at most" if may_be_equal else "less than"
            raise refusal(f"limits.{smaller} ({low}) must be {at_most} limits.{larger} ({high}).")
    if limits.worker_silence_s < WORKER_SILENCE_MIN_S:
        raise refusal(
            f"limits.worker_silence_s must be at least {WORKER_SILENCE_MIN_S:g}, for workers show themselves once a "
            f"second; not {limits.worker_silence_s}."
        )
    if limits.heartbeat_grace_intervals <= 1:
        raise refusal("limits.heartbeat_grace_intervals must be more than 1, or every heartbeat would come too late.")
