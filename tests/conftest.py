"""What is missing on a machine skips loudly; `TEST_REQUIRE=chromium,redis` makes it fail instead."""

from __future__ import annotations

import gc
import os
import sys

import pytest
from hypothesis import settings

# A busy machine takes its time: no example fails for that.
settings.register_profile("hybrid", deadline=None)
settings.load_profile("hybrid")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than some seconds; `make slow` runs these")
    config.addinivalue_line("markers", "zoo: the proxies of the zoo; minutes")
    config.addinivalue_line("markers", "memory(reason): a scenario that only the broker in memory can show")
    config.addinivalue_line("markers", "one_node(reason): a scenario that looks into the only node")
    config.addinivalue_line(
        "markers", "faults: a fault that is not in the quick subset; `make faults` runs all of them"
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Turn the skip of something that is required into a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2])
        required = [name for name in os.environ.get("TEST_REQUIRE", "").split(",") if name]
        for name in required:
            if f"needs {name}" in reason:
                report.outcome = "failed"
                report.longrepr = f"{name} is required here and missing: {reason}"


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Find what was left open in the file that left it, not in an innocent one that happens to be next."""
    if nextitem is not None and nextitem.path == item.path:
        return
    left: list[str] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda found: left.append(f"{found.exc_value!r}")
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert not left, f"{item.path.name} has left open: {left}"
