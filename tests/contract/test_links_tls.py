"""The same links behind TLS, where a half-close does not exist and the transport is another one."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from hybrid.limits import Limits
from hybrid.links.inbound import CLOSE, TEXT
from hybrid.web import launcher
from tests.support.asgi_server import (
    HANDSHAKE,
    Kind,
    LinkApp,
    client_frame,
    close_payload,
    connected,
    on_each_loop,
    restored,
    serving,
)
from tests.support.certificates import make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1 and its key, as file names."""
    made = make_certificate(tmp_path_factory.mktemp("tls"))
    return made.certificate, made.key


def client_context(certificate: tuple[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])


@pytest.mark.parametrize("kind", ["hand-off", "asgi"])
@on_each_loop
async def test_a_websocket_over_tls(kind: Kind, certificate: tuple[str, str]) -> None:
    app = LinkApp(kind)
    async with serving(app, certificate_file=certificate[0], key_file=certificate[1]) as server:
        async with connected(server.port, HANDSHAKE % b"", ssl=client_context(certificate)) as client:
            status, _ = await client.head()
            assert status.startswith(b"HTTP/1.1 101")
            opened = await app.next_opened()
            assert opened.link.is_handed_off == (kind == "hand-off")
            await client.send(client_frame(TEXT, b"up" * 20_000))
            assert await opened.owner.until("received") == (b"up" * 20_000, True)
            opened.link.write(opened.link.framing([b"down" * 20_000]))
            assert await client.frame() == (TEXT, b"down" * 20_000)
            opened.link.close(4412)
            assert await client.close_code() == 4412
            await client.send(client_frame(CLOSE, close_payload(4412)))
            assert await client.rest() == b""
            client.writer.close()
            assert (await opened.owner.until("closed"))[0] == 4412


@on_each_loop
async def test_an_event_stream_over_tls_ends_without_a_half_close(certificate: tuple[str, str]) -> None:
    app = LinkApp("hand-off", limits=Limits(close_timeout_s=0.3))
    async with serving(app, certificate_file=certificate[0], key_file=certificate[1]) as server:
        request = b"GET /sse HTTP/1.1\r\nHost: test\r\n\r\n"
        async with connected(server.port, request, ssl=client_context(certificate)) as client:
            await client.head()
            opened = await app.next_opened()
            assert opened.link.is_handed_off
            opened.link.write(opened.link.framing([b"data: 1\n\n"]))
            opened.link.close(1000)
            assert await client.rest() == b"9\r\ndata: 1\n\n\r\n0\r\n\r\n"
            client.writer.close()
            assert await opened.owner.until("closed") == (1000, "")


@on_each_loop
async def test_open_links_over_tls_are_aborted_at_the_end_and_closed_ones_forgotten(
    certificate: tuple[str, str],
) -> None:
    """uvloop's TLS transports have no weak references, so the launcher must not keep them all."""
    app = LinkApp("hand-off")
    connections: list[launcher._Connections] = []
    remember = launcher._Connections._remember

    def remember_and_show(self: launcher._Connections, transport: asyncio.WriteTransport) -> None:
        remember(self, transport)
        connections.append(self)

    with restored(launcher._Connections, "_remember", remember_and_show):
        async with serving(app, certificate_file=certificate[0], key_file=certificate[1]) as server:
            context = client_context(certificate)
            for _ in range(150):
                async with connected(server.port, HANDSHAKE % b"", ssl=context) as client:
                    await client.head()
                opened = await app.next_opened()
                await opened.owner.until("closed")
            assert len(connections[0]._kept) <= 64
            async with connected(server.port, HANDSHAKE % b"", ssl=context) as client:
                await client.head()
                opened = await app.next_opened()
                await server.stop()
                assert await opened.owner.until("closed") == (1006, "")


@on_each_loop
async def test_a_broken_peer_over_tls_is_told_the_code(certificate: tuple[str, str]) -> None:
    app = LinkApp("hand-off", limits=Limits(close_timeout_s=0.3))
    async with serving(app, certificate_file=certificate[0], key_file=certificate[1]) as server:
        async with connected(server.port, HANDSHAKE % b"", ssl=client_context(certificate)) as client:
            await client.head()
            opened = await app.next_opened()
            await client.send(client_frame(TEXT, b"\xff"))
            assert await client.close_code() == 1007
            client.writer.close()
            assert (await opened.owner.until("closed"))[0] == 1007
