"""The session over a WebSocket: commands and pushes as frames, both ways (`docs/protocol.md`, part B).

The home of the `websockets` library in the client. Compression is never offered: where Python
clients run, bytes are cheaper than the time to inflate them.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from hybrid.cancelling import ended
from hybrid.client.ending import Ending, network, of_close, of_http, of_number
from hybrid.client.endpoint import Endpoint
from hybrid.client.leg import STREAM_PATH, Leg, encode_command
from hybrid.errors import ProtocolError
from hybrid.protocol.codec import JSON, MSGPACK
from hybrid.protocol.commands import AttachSubscription, Confirm, Heartbeat

FRAME_MAX_BYTES: Final = 16_777_216
"""Of one frame from the server: a page of history, or what was gathered for one flush."""
_SUBPROTOCOLS: Final = {"json": Subprotocol("hybrid.v1"), "msgpack": Subprotocol("hybrid.v1.msgpack")}
_CLOSE_TIMEOUT_S: Final = 2.0
_PUSHES_IN_A_ROW: Final = 64  # then others have a turn: frames that are here already are read without waiting
_UNAUTHORIZED: Final = 3401


async def open_websocket(
    endpoint: Endpoint,
    path: str,
    headers: dict[str, str],
    subprotocols: list[Subprotocol] | None = None,
    *,
    ping_interval_s: float | None = None,
) -> ClientConnection | Ending:
    """An open WebSocket, or why there is none. Raises nothing but cancellation.

    `ping_interval_s` is for streams without heartbeats of their own: a peer that answers no ping is dropped.
    """
    if endpoint.in_process is not None:
        opened = await endpoint.in_process.websocket(endpoint.websocket_url(path), headers, subprotocols or [])
        return opened if isinstance(opened, Ending) else cast(ClientConnection, opened)
    try:
        return await connect(
            endpoint.websocket_url(path),
            additional_headers=headers,
            subprotocols=subprotocols,
            compression=None,
            proxy=None,
            open_timeout=endpoint.connect_timeout_s,
            ping_interval=ping_interval_s,
            ping_timeout=ping_interval_s,
            close_timeout=_CLOSE_TIMEOUT_S,
            max_size=FRAME_MAX_BYTES,
            **endpoint.dialling(),
        )
    except InvalidStatus as error:
        response = error.response
        answer = {name.lower(): value for name, value in response.headers.raw_items()}
        return of_http(response.status_code, answer, bytes(response.body or b""))
    except (OSError, TimeoutError, WebSocketException, ValueError) as error:
        return network(error)


def _as_network(refused: Ending) -> Ending:
    """A session's handshake is taken, and asked for its token behind that: who answers that there is none was shown a
    plain GET, without the `Upgrade` that something on the way has taken out. Other transports do not need it."""
    return network("`Upgrade` is taken out on the way") if refused.number == _UNAUTHORIZED else refused


def ending_of(closed: ConnectionClosed) -> Ending:
    """The end that a closed connection tells; a missing close frame is a cut."""
    if closed.rcvd is None:
        return network("the connection was cut")
    return of_close(closed.rcvd.code, closed.rcvd.reason)


class WebSocketLeg(Leg):
    """See `Leg`."""

    transport: ClassVar[str] = "websocket"
    sends_token: ClassVar[bool] = True

    _socket: ClientConnection | None = None

    async def carry(self) -> Ending:
        """See `Leg.carry`."""
        subprotocol = _SUBPROTOCOLS[self.host.encoding]
        headers = await self.host.credentials.headers()
        socket = await open_websocket(self.host.endpoint, STREAM_PATH, headers, [subprotocol])
        if isinstance(socket, Ending):
            return _as_network(socket)
        self._socket = socket
        sender: asyncio.Task[None] | None = None
        try:
            if socket.subprotocol != subprotocol:
                return network("the subprotocol was not accepted")
            await socket.send(self.encoded_attach(self.host.encoding), text=self.host.encoding == "json")
            sender = asyncio.create_task(self._send_all(socket))
            return await self._read_all(socket)
        except ConnectionClosed as closed:
            return self.disconnected or ending_of(closed)
        finally:
            if sender is not None:
                await ended(sender)
            socket.transport.abort()

    async def _read_all(self, socket: ClientConnection) -> Ending:
        codec = JSON if self.host.encoding == "json" else MSGPACK
        loop = asyncio.get_running_loop()
        count = 0
        try:
            async with asyncio.timeout(self.host.endpoint.connect_timeout_s) as silence:
                while True:
                    frame = await socket.recv(decode=False)
                    for line in frame.split(b"\n") if not codec.is_binary else (frame,):
                        if line:
                            self.take_push(codec.decode_push(line))
                            count += 1
                    if self.disconnected is not None:
                        return self.disconnected
                    silence_max_s = self.silence_max_s
                    if silence_max_s is not None:
                        silence.reschedule(loop.time() + silence_max_s)
                    if count >= _PUSHES_IN_A_ROW:
                        count = 0
                        await asyncio.sleep(0)
        except TimeoutError:
            return network("nothing was heard for too long")
        except ProtocolError as error:
            return of_number(0, f"the server sent what cannot be read: {error}")

    async def _send_all(self, socket: ClientConnection) -> None:
        """Send commands as they come, and a heartbeat where none came for an interval."""
        try:
            while True:
                try:
                    interval_s = self.attached.heartbeat_interval_s if self.attached is not None else None
                    async with asyncio.timeout(interval_s):  # wait_for of 3.11 can swallow a cancellation
                        await self.wait_for_commands()
                except TimeoutError:
                    self.send(Heartbeat(last_seq=self.host.last_seq))
                for command in self.waiting(1):
                    frame = encode_command(command, self.host.encoding)
                    await socket.send(frame, text=self.host.encoding == "json")
        except ConnectionClosed:
            return  # the reader hears of it too, with its reason

    def confirm(self, subscriptions: list[AttachSubscription]) -> None:
        """See `Leg.confirm`."""
        self.send(Confirm(attempt=self.attempt, subscriptions=subscriptions))

    async def goodbye(self) -> None:
        """Close in form: the server forgets the session at once."""
        if self._socket is not None:
            await self._socket.close(1000)
