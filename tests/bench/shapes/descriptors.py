"""How many connections a process of the bench may have."""

from __future__ import annotations

import resource
from typing import Final

WANTED: Final = 65_536


def raise_limit() -> int:
    """Raise this process's limit of descriptors as far as it may go; returns what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit
