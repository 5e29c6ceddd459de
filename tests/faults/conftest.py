"""One issuer for all fault tests, and the table of how they went."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybrid.auth.development import DevelopmentIssuer
from tests.faults import stage
from tests.support.http_issuer import http_issuer
from tests.support.nodes import AUDIENCE


@pytest.fixture(scope="session")
def issuer() -> Iterator[DevelopmentIssuer]:
    with http_issuer(AUDIENCE) as made:
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, for whoever wants to know more than that all was well."""
    if stage.ROWS:
        terminalreporter.section("faults")
        terminalreporter.write_line(stage.table())
