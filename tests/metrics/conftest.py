"""Every reading is of now: they are kept for a second otherwise, for which no test should wait."""

from __future__ import annotations

import pytest

from hybrid.web.metrics import routes


@pytest.fixture(autouse=True)
def _readings_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "KEPT_S", 0.0)
