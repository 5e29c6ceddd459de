"""Echo servers for the cases of the Autobahn|Testsuite: hybrid's own links under the real launcher, and a peer.

hybrid itself echoes nothing, so an application stands where the engine does and gives each message back, on the same
sockets and through the same code: handshake, reader, framing, compression, close.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from websockets.asyncio.server import ServerConnection, serve

from hybrid.clock import SystemClock
from hybrid.engine.deflated import deflate
from hybrid.limits import Limits
from hybrid.links.asgi import Receive, Scope, Send
from hybrid.links.framing import websocket_binary, websocket_text
from hybrid.links.open import OpenWebSocket, open_websocket
from tests.support.asgi_server import serving

MESSAGE_MAX_BYTES: Final = 17 * 1024 * 1024  # the largest of the cases is 16 MiB
LIMITS: Final = Limits(
    attach_max_bytes=MESSAGE_MAX_BYTES, fragments_max=70_000, control_frames_per_s_max=1_000, shutdown_grace_s=0.5
)
"""The first bounds what Hypercorn takes from a WebSocket. The cases of section 9 send a message in 65,536 fragments,
some of 2 and 5 many pings in one packet."""


class _Echo:
    """The owner of one link."""

    link: Any

    def link_received(self, message: bytes, is_text: bool) -> None:
        link = self.link
        if not link.is_handed_off:
            link._is_binary = not is_text  # fixed for a session of hybrid; no case mixes both on one connection
            link.write((message,))
            return
        payload = deflate(message) if link.takes_deflated else message
        link.write((websocket_text if is_text else websocket_binary)([payload]))

    def link_paused(self) -> None: ...

    def link_resumed(self) -> None: ...

    def link_closed(self, code: int, reason: str) -> None: ...


class _Saboteur(_Echo):
    """Gives back something else."""

    def link_received(self, message: bytes, is_text: bool) -> None:
        super().link_received(message[:-1] + b"?", is_text)


def _application(*, is_handoff: bool, owner_type: type[_Echo] = _Echo) -> Callable[[Scope, Receive, Send], Any]:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                await send({"type": (await receive())["type"] + ".complete"})
            return
        owner = owner_type()
        link: OpenWebSocket = await open_websocket(
            scope,
            receive,
            send,
            owner=owner,
            subprotocol=None,
            is_binary=False,
            limits=LIMITS,
            clock=SystemClock(),
            message_max_bytes=MESSAGE_MAX_BYTES,
            allow_handoff=is_handoff,
            may_deflate=True,
        )
        owner.link = link
        await link.served()

    return application


@asynccontextmanager
async def _hybrid(*, is_handoff: bool = True, owner_type: type[_Echo] = _Echo, **options: Any) -> AsyncIterator[int]:
    application = _application(is_handoff=is_handoff, owner_type=owner_type)
    async with serving(application, limits=LIMITS, **options) as server:
        yield server.port


@asynccontextmanager
async def _websockets() -> AsyncIterator[int]:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, max_size=MESSAGE_MAX_BYTES) as server:
        yield next(iter(server.sockets)).getsockname()[1]


SERVERS: Final[dict[str, Callable[[], AbstractAsyncContextManager[int]]]] = {
    # Each yields its port. The first: requests that `links.front` reads itself, as those of streams are.
    "front": lambda: _hybrid(streams_under=b"/"),
    "hand-off": _hybrid,
    "asgi": lambda: _hybrid(is_handoff=False),
    "websockets": _websockets,
}


async def main() -> None:
    """Serve one of `SERVERS` for good, and say on which port: `python -m tests.autobahn.echo hand-off`."""
    # The saboteur shows that the runner sees what is wrong; it is not among those that are judged.
    chosen = SERVERS | {"saboteur": lambda: _hybrid(owner_type=_Saboteur)}
    async with chosen[sys.argv[1]]() as port:
        print(port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
