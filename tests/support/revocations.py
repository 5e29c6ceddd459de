"""What stands in for the revocations of a node where a test is about something else."""

from __future__ import annotations

from hybrid.auth.revocation import Revocations
from hybrid.clock import Clock
from hybrid.limits import Limits


def nothing_revoked(clock: Clock) -> Revocations:
    """All is known, and it is nothing."""
    made = Revocations(Limits(), clock)
    made.is_known = True
    return made
