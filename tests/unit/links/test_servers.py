"""One warning for a server that keeps its connections, and none where there is no reason."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid.links import servers


class Strange:
    async def send(self, message: Any) -> None: ...


async def wrapped(message: Any) -> None: ...


def test_a_strange_server_is_named_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_has_warned", False)
    monkeypatch.setattr(Strange, "__module__", "granian._granian")
    servers.warn_if_strange(wrapped)
    assert not caplog.records
    for _ in range(2):
        servers.warn_if_strange(Strange().send)
    assert [record.getMessage().split(" ")[0] for record in caplog.records] == ["granian"]


@pytest.mark.parametrize("module", ["hypercorn.protocol.ws_stream", "uvicorn.protocols.http.h11_impl", "hybrid.links"])
def test_servers_that_give_them_are_not(
    module: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_has_warned", False)
    monkeypatch.setattr(Strange, "__module__", module)
    servers.warn_if_strange(Strange().send)
    assert not caplog.records
