"""hybrid behind the real nginx: nodes in this loop, nginx in front of them, and clients that only know nginx.

async with proxied() as site:
    client = await site.client(Pipe("sse"))
    reader = await site.read(client, "chat:lobby")
    await site.publish("chat:lobby", 1)
    await reader.until(1)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final

import httpx2
from websockets.asyncio.client import connect

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.client.client import Client
from hybrid.limits import Limits
from hybrid.model import Position
from hybrid.settings import Namespace, Settings
from tests.support.nginx import HOST, Change, Nginx, running_nginx
from tests.support.server import RunningServer, new_issuer, running_server, settings_for
from tests.support.world import LIMITS, TIMING, Guests, Pipe

URL: Final = f"https://{HOST}"
_READ_MAX: Final = 1_048_576


def node_settings(limits: Limits = LIMITS, *, handoff: bool = True, **more: Any) -> Settings:
    """Of a node that believes the nginx of this machine."""
    namespaces = {name: Namespace(name, history_size=1_000) for name in ("default", "chat")}
    made = settings_for(handoff=handoff, limits=limits, namespaces=namespaces)
    hosts = (HOST, f"{HOST}:*", "127.0.0.1:*")
    return replace(made, trusted_proxies=("127.0.0.1", "::1"), allowed_hosts=hosts, **more)


class Site(Guests):
    """See the module's text. What it opens ends with it."""

    def __init__(self, nginx: Nginx, nodes: list[RunningServer], issuer: DevelopmentIssuer, stack: AsyncExitStack):
        self.nginx = nginx
        self.nodes = nodes
        self.issuer = issuer
        super().__init__(stack)

    @property
    def node(self) -> RunningServer:
        """The first one."""
        return self.nodes[0]

    def token(self, subject: str = "alice", scope: str = FULL_SCOPE) -> str:
        return self.issuer.mint(subject, scope)

    def bearer(self, subject: str = "alice") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(subject)}"}

    # -- hybrid's own client

    async def client(
        self, pipe: Pipe | tuple[str, ...], subject: str = "alice", *, is_connected: bool = True
    ) -> Client:
        client = Client(
            URL,
            lambda: self.token(subject),
            pipe.transport if isinstance(pipe, Pipe) else pipe,
            encoding=pipe.encoding if isinstance(pipe, Pipe) else "json",  # type: ignore[arg-type]
            dial=("127.0.0.1", self.nginx.https_port),
            tls=self.nginx.client_context(),
            timing=TIMING,
        )
        return await self.opened(client, is_connected)

    async def publish(self, channel: str, data: Any, node: int = 0) -> Position:
        """Publish at a node, past nginx."""
        appended = await self.nodes[node].engine.publish(channel, data)
        await asyncio.sleep(0)
        return appended.position

    async def keep(self, opened: AbstractAsyncContextManager[RunningServer]) -> RunningServer:
        """Enter a server that is to run for as long as the site."""
        return await self._stack.enter_async_context(opened)

    # -- plain HTTP

    def http(self, *, http2: bool = False, source: str | None = None, **options: Any) -> httpx2.AsyncClient:
        """An HTTP client that trusts the certificate. `source` is the address it comes from."""
        context = self.nginx.client_context(alpn=("h2",) if http2 else ("http/1.1",))
        transport = httpx2.AsyncHTTPTransport(
            verify=context, http1=not http2, http2=http2, local_address=source, trust_env=False
        )
        return httpx2.AsyncClient(
            transport=transport, base_url=f"https://127.0.0.1:{self.nginx.https_port}", timeout=15.0, **options
        )

    def named(self, headers: dict[str, str] | None = None, host: str = HOST) -> dict[str, Any]:
        """What a request needs to be addressed to the site."""
        return {"headers": {"Host": host, **(headers or {})}, "extensions": {"sni_hostname": HOST}}

    async def raw(
        self, request: bytes, *, source: str | None = None, is_secure: bool = True, name: str = HOST
    ) -> tuple[int, dict[str, str], bytes]:
        """One request as bytes on a connection of its own, which the answer has to end: status, headers, body.

        Status 0: the connection was closed without an answer.
        """
        port = self.nginx.https_port if is_secure else self.nginx.http_port
        more: dict[str, Any] = {"ssl": self.nginx.client_context(), "server_hostname": name} if is_secure else {}
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=None if source is None else (source, 0), **more
        )
        try:
            writer.write(request)
            answer = b""
            with suppress(ConnectionResetError):  # 444 on bytes that were not read
                while part := await reader.read(_READ_MAX):
                    answer += part
        finally:
            writer.transport.abort()
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head:
            return 0, {}, b""
        status, *lines = head.decode("latin-1").split("\r\n")
        return int(status.split(" ")[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}, body


def socket_to(site: Site, path: str, **options: Any) -> connect:
    """A WebSocket that shows a token, as `websockets` opens it."""
    return connect(
        f"wss://{HOST}{path}",
        host="127.0.0.1",
        port=site.nginx.https_port,
        ssl=site.nginx.client_context(),
        proxy=None,
        additional_headers=site.bearer(),
        **options,
    )


@asynccontextmanager
async def proxied(
    settings: Settings | None = None,
    *changes: Change,
    nodes: int = 1,
    first_ports: Sequence[int] = (),
    limit_s: float = 40.0,
) -> AsyncIterator[Site]:
    """A site; what hangs in it fails after `limit_s`. `first_ports` stand in front of the nodes in nginx's groups."""
    issuer = new_issuer()
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(running_server(settings or node_settings(), issuer=issuer))
            for _ in range(nodes)
        ]
        ports = [*first_ports, *(server.port for server in servers)]
        site = await stack.enter_async_context(behind_nginx(ports, issuer, *changes, limit_s=limit_s))
        site.nodes = servers
        yield site


@asynccontextmanager
async def behind_nginx(
    ports: Sequence[int], issuer: DevelopmentIssuer, *changes: Change, limit_s: float = 40.0
) -> AsyncIterator[Site]:
    """A site in front of nodes that somebody else runs."""
    async with running_nginx(ports, *changes) as nginx, AsyncExitStack() as stack:
        site = Site(nginx, [], issuer, stack)
        try:
            async with asyncio.timeout(limit_s):
                yield site
        except BaseException:
            print(tell(site))
            raise


def tell(site: Site) -> str:
    """What happened to every client, for the report of a failure."""
    lines = []
    for number, client in enumerate(site.clients):
        lines.append(f"client {number}: {client.stats}")
        lines += [
            f"  {e.at_s:.3f} {e.what} {e.transport} attempt={e.attempt} number={e.number} {e.detail}"
            for e in client.log
        ]
    return "\n".join(lines)
