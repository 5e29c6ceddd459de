"""docs/examples/systemd/hybrid.service: systemd understands it, it is locked up, and it fits the limits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid.limits import Limits
from hybrid.web import supervisor
from tests.support.crew import ROOT
from tests.support.processes import program

UNIT = ROOT / "docs" / "examples" / "systemd" / "hybrid.service"
_EXPOSURE_MAX = 1.5  # out of 10, as `systemd-analyze security` counts; 1.2 with Debian 12's


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if sys.platform != "linux":
        pytest.skip("systemd is Linux's")
    return subprocess.run(
        [program("systemd-analyze", package="systemd"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def seconds(name: str) -> int:
    found = re.search(rf"^{name}=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert found, name
    return int(found[1])


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/hybrid/bin/hybrid", "/bin/true"))
    done = analyze("verify", str(unit))
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert (done.returncode, complaints) == (0, [])


def test_it_is_locked_up() -> None:
    done = analyze("security", "--offline=true", "--no-pager", str(UNIT))
    if "unrecognized option" in done.stderr:
        pytest.skip("needs systemd-analyze 250 or later")
    found = re.search(r"exposure level for hybrid\.service: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= _EXPOSURE_MAX


def test_its_times_and_numbers_fit_the_limits() -> None:
    limits = Limits()
    assert seconds("TimeoutStopSec") > limits.shutdown_grace_s + supervisor._LEAVING_MARGIN_S
    assert seconds("WatchdogSec") > 2 * limits.worker_silence_s
    assert seconds("TimeoutStartSec") > limits.worker_start_s
    assert seconds("LimitNOFILE") > limits.links_max + limits.unauthenticated_max
