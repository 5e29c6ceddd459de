"""The quick part of `make autobahn`: every section with all its edges but without its thousands of messages."""

from __future__ import annotations

import asyncio

import pytest

from tests.autobahn.__main__ import faults, should_pass
from tests.autobahn.run import Case, run

QUICK = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.1.1", "9.2.1", "9.3.9", "9.4.9", "9.5.6", "9.6.6", "10.*"]
COMPRESSED = ["12.1.2", "12.2.11", "13.1.2", "13.2.11", "13.3.2", "13.7.2"]


@pytest.mark.parametrize("server", ["front", "hand-off", "asgi"])
def test_the_cases_of_the_autobahn_testsuite(server: str) -> None:
    cases = asyncio.run(run(server, [*QUICK, *COMPRESSED], at_once=8))
    assert len(cases) > 250
    assert faults(server, cases) == []
    if server != "asgi":
        assert {case.id for case in cases if not case.is_good} == {"13.3.2"}, "only what is declined on purpose"


def test_the_runner_sees_what_is_wrong() -> None:
    """A server that answers with other bytes fails, and so does one that closes with the wrong code."""
    [wrong] = asyncio.run(run("saboteur", ["1.1.2"]))
    assert (wrong.verdict, wrong.is_good) == ("FAILED", False)
    assert faults("hand-off", [wrong]) == [wrong]


def test_a_declined_offer_is_no_fault_and_any_other_failure_is() -> None:
    assert faults("hand-off", [Case("13.3.1", "UNIMPLEMENTED", "")]) == []
    assert faults("asgi", [Case("12.1.2", "UNIMPLEMENTED", "")]) == []
    for case in (Case("13.3.1", "FAILED", ""), Case("12.1.2", "UNIMPLEMENTED", ""), Case("5.1", "UNCLEAN", "")):
        assert faults("hand-off", [case]) == [case]
    assert should_pass("hand-off", Case("13.7.1", "OK", ""))
