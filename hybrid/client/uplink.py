"""Commands of a session whose transport carries pushes only: `POST /v1/command`, one in flight, until answered.

Repeating is safe: numbered commands are recognised by their number, publishes by their key, and the rest only reads.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from hybrid.client.backoff import Backoff
from hybrid.client.ending import Ending, network
from hybrid.client.leg import COMMAND_PATH, Leg, encode_command
from hybrid.errors import ProtocolError
from hybrid.protocol.commands import AnyCommand, CommandPost
from hybrid.protocol.pushes import Push, Reply

_COMMANDS_MAX: Final = 64
_BODY_MAX_BYTES: Final = 524_288  # half of what the server takes, so that the envelope always fits
_ATTEMPTS_MAX: Final = 4
_ANSWER_TIMEOUT_S: Final = 15.0


class Replies(msgspec.Struct, frozen=True):
    """The answer to a POST of commands, in their order."""

    replies: list[Reply]


_decode_replies: Final = msgspec.json.Decoder(Replies).decode


class Uplink:
    """Sends what stands in the outbox of a leg."""

    def __init__(self, leg: Leg, backoff: Backoff | None = None) -> None:
        self._leg = leg
        self._backoff = backoff or Backoff(0.1, 2.0)

    async def run(self) -> Ending:
        """Send until it fails for good; returns why. Raises nothing but cancellation."""
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
                if batch and size + len(raw) > _BODY_MAX_BYTES:
                    left = command
                    break
                batch.append(msgspec.Raw(raw))
                size += len(raw)
            ending = await self._post(batch) if batch else None
            if ending is not None:
                return ending

    async def _post(self, batch: list[msgspec.Raw]) -> Ending | None:
        """Send one batch until it is answered. None when it was."""
        host = self._leg.host
        has_new_token = False
        ending = network("the command was not answered")
        self._backoff.reset()
        for _ in range(_ATTEMPTS_MAX):
            post = CommandPost(self._leg.session, batch, host.last_seq)
            headers = {**await host.credentials.headers(), "Content-Type": "application/json"}
            try:
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    answer = await host.endpoint.request(
                        "POST", COMMAND_PATH, self._leg.transport, headers, content=msgspec.json.encode(post)
                    )
            except TimeoutError:
                answer = network("the command was not answered in time")
            if isinstance(answer, bytes):
                try:
                    for reply in _decode_replies(answer).replies:
                        self._leg.take_push(Push(reply=reply))
                except (msgspec.MsgspecError, ProtocolError) as error:
                    return network(f"the answer to a command cannot be read: {error}")
                return None
            ending = answer
            if ending.is_about_credentials and not has_new_token:
                has_new_token = True
                host.credentials.invalidate()
                continue
            if not (ending.is_network or ending.delay_s is not None):
                return ending
            await asyncio.sleep(max(ending.delay_s or 0.0, self._backoff.next_delay_s()))
        return ending
