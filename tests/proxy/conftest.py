"""A fault of a library that only TLS brings out, mended for these tests."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from httpcore2._backends.anyio import AnyIOStream


@pytest.fixture(autouse=True)
def tls_handshakes_close_what_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """httpcore2 2.16 closes the socket of a TLS handshake that failed, but not of one that was cancelled.

    hybrid's client cancels handshakes of legs that it gives up. The socket is then open until the server closes it, and
    Python's warning about it fails whichever test runs when it is collected.
    """
    start_tls = AnyIOStream.start_tls

    async def start_tls_or_close(self: AnyIOStream, *arguments: Any, **options: Any) -> Any:
        try:
            return await start_tls(self, *arguments, **options)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self.aclose()
            raise

    monkeypatch.setattr(AnyIOStream, "start_tls", start_tls_or_close)
