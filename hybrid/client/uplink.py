"""Commands of a session whose transport carries pushes only: `POST /v1/command`, one in flight, until answered.

Calls go beside them, each in a POST of its own: they may take long, and nothing waits behind one. Repeating is safe:
numbered commands are recognised by their number, publishes and calls by their key, and the rest only reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from hybrid import cancelling
from hybrid.client.backoff import Backoff
from hybrid.client.ending import Ending, network
from hybrid.client.leg import COMMAND_PATH, Leg, encode_command
from hybrid.errors import ProtocolError
from hybrid.protocol.codec import DECODING_ERRORS
from hybrid.protocol.commands import AnyCommand, Call, CommandPost, Heartbeat
from hybrid.protocol.pushes import Push, Reply

_COMMANDS_MAX: Final = 64
_BODY_MAX_BYTES: Final = 524_288  # half of what the server takes, so that the envelope always fits
_ATTEMPTS_MAX: Final = 4
_ANSWER_TIMEOUT_S: Final = 15.0
_CALL_TIMEOUT_S: Final = 30.0  # a handler may take 20 s


class Replies(msgspec.Struct, frozen=True):
    """The answer to a POST of commands, in their order."""

    replies: list[Reply]


_decode_replies: Final = msgspec.json.Decoder(Replies).decode


class Uplink:
    """Sends what stands in the outbox of a leg."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg
        self._posts: set[asyncio.Task[Any]] = set()

    async def run(self) -> Ending:
        """Send until it fails for good; returns why. Raises nothing but cancellation."""
        ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._begin(self._send_in_order(ended), ended)
        try:
            return await ended
        finally:
            await cancelling.ended(*self._posts)

    def post_ahead(self, command: Heartbeat) -> None:
        """Post it beside whatever is on its way, once; what becomes of it is seen on the stream."""

        async def post() -> None:
            body = msgspec.json.encode(CommandPost(self._leg.session, [msgspec.Raw(encode_command(command, "json"))]))
            host = self._leg.host
            headers = {**await host.credentials.headers(), "Content-Type": "application/json"}
            await host.endpoint.request_within(
                _ANSWER_TIMEOUT_S, "POST", COMMAND_PATH, self._leg.transport, headers, content=body
            )

        task = asyncio.get_running_loop().create_task(post())
        self._posts.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._posts.discard(task)
        if not task.cancelled():
            task.exception()  # a token that cannot be had is met by the next command, too

    def _begin(self, posting: Coroutine[Any, Any, Ending | None], ended: asyncio.Future[Ending]) -> None:
        def finished(task: asyncio.Task[Ending | None]) -> None:
            self._posts.discard(task)
            if task.cancelled() or ended.done():
                return
            error = task.exception()
            if error is not None:
                ended.set_exception(error)
            elif (ending := task.result()) is not None:
                ended.set_result(ending)

        task = asyncio.get_running_loop().create_task(posting)
        self._posts.add(task)
        task.add_done_callback(finished)

    async def _send_in_order(self, ended: asyncio.Future[Ending]) -> Ending:
        left: AnyCommand | None = None
        while True:
            if left is None:
                await self._leg.wait_for_commands()
            batch: list[msgspec.Raw] = []
            size = 0
            while len(batch) < _COMMANDS_MAX:
                command = left or next(self._leg.waiting(1), None)
                left = None
                if command is None:
                    break
                raw = encode_command(command, "json")
                if isinstance(command, Call):
                    self._begin(self._post([msgspec.Raw(raw)], _CALL_TIMEOUT_S), ended)
                    continue
                if batch and size + len(raw) > _BODY_MAX_BYTES:
                    left = command
                    break
                batch.append(msgspec.Raw(raw))
                size += len(raw)
            ending = await self._post(batch) if batch else None
            if ending is not None:
                return ending

    async def _post(self, batch: list[msgspec.Raw], timeout_s: float = _ANSWER_TIMEOUT_S) -> Ending | None:
        """Send one batch until it is answered. None when it was."""
        host = self._leg.host
        has_new_token = False
        ending = network("the command was not answered")
        backoff = Backoff(0.1, 2.0)
        for _ in range(_ATTEMPTS_MAX):
            post = CommandPost(self._leg.session, batch, host.last_seq)
            headers = {**await host.credentials.headers(), "Content-Type": "application/json"}
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await host.endpoint.request(
                        "POST", COMMAND_PATH, self._leg.transport, headers, content=msgspec.json.encode(post)
                    )
            except TimeoutError:
                answer = network("the command was not answered in time")
            if isinstance(answer, bytes):
                try:
                    for reply in _decode_replies(answer).replies:
                        self._leg.take_push(Push(reply=reply))
                except (*DECODING_ERRORS, ProtocolError) as error:
                    return network(f"the answer to a command cannot be read: {error}")
                return None
            ending = answer
            if ending.is_about_credentials and not has_new_token:
                has_new_token = True
                host.credentials.invalidate()
                continue
            if not (ending.is_network or ending.delay_s is not None):
                return ending
            await asyncio.sleep(max(ending.delay_s or 0.0, backoff.next_delay_s()))
        return ending
