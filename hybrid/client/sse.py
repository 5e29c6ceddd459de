"""The session over an event stream: `POST /v1/stream` downwards, `POST /v1/command` upwards.

Framing: WHATWG HTML, section 9.2; each push is one event, `data: {...}`.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import msgspec

from hybrid.cancelling import ended, once
from hybrid.client.ending import Ending, network, of_http, of_number
from hybrid.client.endpoint import HTTP_ERRORS, read_bounded
from hybrid.client.leg import STREAM_PATH, Leg, LegHost
from hybrid.client.uplink import Uplink
from hybrid.errors import ProtocolError
from hybrid.protocol.codec import JSON
from hybrid.protocol.commands import Attach, AttachSubscription, Confirm, Heartbeat
from hybrid.protocol.eventstream import EventStreamParser

EVENT_MAX_BYTES = 16_777_216


class SseLeg(Leg):
    """See `Leg`."""

    transport: ClassVar[str] = "sse"
    asks_after_s: ClassVar[float] = 0.5  # a POST of its own: not one for each leg where legs are cut at once

    def __init__(self, host: LegHost, attach: Attach) -> None:
        super().__init__(host, attach)
        self._uplink = Uplink(self)

    def send_ahead(self, command: Heartbeat) -> None:
        """See `Leg.send_ahead`: in a POST of its own, whose answer may come on another way than the stream."""
        self._uplink.post_ahead(msgspec.structs.replace(command, attempt=self.attempt))

    async def carry(self) -> Ending:
        """See `Leg.carry`."""
        reader = asyncio.create_task(once(self._read_all()))
        uplink = asyncio.create_task(self._uplink.run())
        try:
            done, _ = await asyncio.wait({reader, uplink}, return_when=asyncio.FIRST_COMPLETED)
            return self.disconnected or (reader if reader in done else uplink).result()
        finally:
            await ended(reader, uplink)

    async def _read_all(self) -> Ending:
        host = self.host
        loop = asyncio.get_running_loop()
        headers = {
            **await host.credentials.headers(),
            "Accept": "text/event-stream",
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
        }
        body = self.encoded_attach("json")
        parser = EventStreamParser(EVENT_MAX_BYTES)
        try:
            async with asyncio.timeout(host.endpoint.connect_timeout_s) as silence:
                async with host.endpoint.stream("POST", STREAM_PATH, "sse", headers, content=body) as response:
                    if response.status_code != 200:
                        return of_http(response.status_code, response.headers, await read_bounded(response))
                    if not response.headers.get("content-type", "").startswith("text/event-stream"):
                        return network("the answer is no event stream")
                    async for chunk in response.aiter_bytes():
                        for event in parser.feed(chunk):
                            self.take_push(JSON.decode_push(event.data.encode()))
                        if self.disconnected is not None:
                            return self.disconnected
                        silence_max_s = self.silence_max_s
                        if silence_max_s is not None:
                            silence.reschedule(loop.time() + silence_max_s)
                        await asyncio.sleep(0)
        except TimeoutError:
            return network("nothing was heard for too long")
        except HTTP_ERRORS as error:
            return network(error)
        except ProtocolError as error:
            return of_number(0, f"the server sent what cannot be read: {error}")
        return network("the stream has ended")

    def confirm(self, subscriptions: list[AttachSubscription]) -> None:
        """See `Leg.confirm`."""
        self.send(Confirm(attempt=self.attempt, subscriptions=subscriptions))
