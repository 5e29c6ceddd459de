"""Reads what `/metrics` answers with the library's own parser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support.bytewise import Answer, call
from tests.support.server import RunningServer

SCOPE = "hybrid:metrics"


class Scrape:
    """The samples of one answer."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples: list[Sample] = [sample for family in self.families for sample in family.samples]

    @property
    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}

    def of(self, name: str, **labels: str) -> float:
        """The value of the only sample with these labels; others may be there, too."""
        found = [value for value in self._found(name, labels)]
        assert len(found) == 1, (name, labels, found)
        return found[0]

    def sum(self, name: str, **labels: str) -> float:
        return sum(self._found(name, labels))

    def _found(self, name: str, labels: dict[str, str]) -> Iterator[float]:
        for sample in self.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample.value


async def ask(server: RunningServer, token: str | None = None, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        given["Authorization"] = f"Bearer {token}"
    return await call(server, "GET", "/metrics", given)


async def scrape(server: RunningServer, **options: Any) -> Scrape:
    answer = await ask(server, server.token("prometheus", scope=SCOPE), **options)
    assert answer.status == 200, answer
    return Scrape(answer.body.decode())
