"""Every answer that these tests get, and every message, has to be as the published documents say."""

from __future__ import annotations

from tests.support.specified import as_specified  # noqa: F401
