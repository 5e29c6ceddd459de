"""The server behind the animals: a real `hybrid serve` on a real Redis, plain and over TLS.

It serves the course's page and the client's modules itself, so that they come through the animal like everything else.
Its log is in Redis, so that it outlives the server's restart.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from tests.proxy.zoo.animals import Origin
from tests.support.certificates import make_certificate
from tests.support.http_issuer import jwks_url
from tests.support.nodes import AUDIENCE, ROOT, SECRET, Node

PAGE: Final = "/static/course/index.html"
HOST: Final = "127.0.0.1"
NAMES: Final = (HOST, "localhost", "hybrid.test", "hybrid.example")
COURSE: Final = Path(__file__).parent / "course"
_COUNTED: Final = "legs since the start: "
_KEPT_PUBLICATIONS: Final = 20_000
_TOKEN_S: Final = 3_600.0
_PIECE_BYTES: Final = 65_536


class Server:
    """The origin of one run. `address` is what animals are told; `url` goes past them."""

    def __init__(self, node: Node, address: Origin, issuer: DevelopmentIssuer) -> None:
        self.node = node
        self.address = address
        self.token = issuer.mint("zoo", FULL_SCOPE, lifetime_s=_TOKEN_S)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.node.port}"

    def counted(self) -> list[str]:
        """What it wrote of its sessions' legs, at each of its ends until now: transports, and why not better ones."""
        _, *told = self.node.process.output().split(_COUNTED)
        return [text.partition("\n")[0] for text in told]


@asynccontextmanager
async def serving(
    folder: Path, *, redis_url: str, issuer: DevelopmentIssuer, pages_at: Sequence[int] = ()
) -> AsyncIterator[Server]:
    """An origin of its own. Its pages may also be shown under the loopback's ports `pages_at`: an animal's."""
    static = folder / "static"
    static.mkdir(parents=True)
    (static / "hybrid").symlink_to(ROOT / "static" / "hybrid")
    (static / "course").symlink_to(COURSE)
    certificate = make_certificate(folder / "tls", "hybrid.test")
    node = Node(0, folder, {})
    async with tls_in_front_of(node.port, certificate.certificate, certificate.key) as tls_port:
        schemes = (("http", node.port), ("https", tls_port), *((s, p) for s in ("http", "https") for p in pages_at))
        node.settings = {
            "public_url": AUDIENCE,
            "allowed_hosts": [pattern for name in NAMES for pattern in (name, f"{name}:*")],
            "allowed_origins": [f"{scheme}://{name}:{port}" for scheme, port in schemes for name in NAMES],
            "issuers": [{"url": issuer.issuer, "jwks_url": jwks_url(issuer)}],
            "broker": redis_url,
            "key_prefix": f"zoo{secrets.token_hex(4)}",
            "secret": SECRET,
            "static_dir": str(static),
            "namespaces": {"zoo": {"history_size": _KEPT_PUBLICATIONS, "history_ttl_s": 3_600.0}},
        }
        try:
            await node.start()
            yield Server(node, Origin(HOST, node.port, tls_port, Path(certificate.certificate)), issuer)
        finally:
            await node.stop()


@asynccontextmanager
async def tls_in_front_of(port: int, certificate: str, key: str) -> AsyncIterator[int]:
    """A port that speaks TLS and passes on what is inside, byte for byte. HTTP/1.1 only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    open_ones: set[asyncio.Task[None]] = set()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _relay(reader, writer, port)
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(passed(reader, writer))
        open_ones.add(task)
        task.add_done_callback(open_ones.discard)

    server = await asyncio.start_server(accept, HOST, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
        await server.wait_closed()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Until one side has ended: TLS has no half of a connection that could go on."""
    try:
        to_reader, to_writer = await asyncio.open_connection(HOST, port)
    except OSError:  # the server is being restarted
        return
    ways = [asyncio.ensure_future(_copy(*way)) for way in ((reader, to_writer), (to_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        to_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while data := await reader.read(_PIECE_BYTES):
            writer.write(data)
            await writer.drain()
