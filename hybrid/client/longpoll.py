"""The session over long polling: `POST /v1/stream` again and again, each with the positions reached so far.

A lost answer costs nothing, since nothing is given up before a poll's positions have passed it.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

import msgspec

from hybrid.cancelling import ended
from hybrid.client.backoff import Backoff
from hybrid.client.ending import Ending, network
from hybrid.client.leg import STREAM_PATH, Leg, LegHost, encode_command
from hybrid.client.uplink import Uplink
from hybrid.errors import ProtocolError
from hybrid.protocol.codec import DECODING_ERRORS
from hybrid.protocol.commands import Attach, AttachSubscription, Poll
from hybrid.protocol.pushes import Push

_ANSWER_MARGIN_S: Final = 10.0
"""On top of the wait: a poll that is not answered by then is lost."""
_WAIT_MIN_S: Final = 5.0
_GATEWAY_FAILURES: Final = frozenset({"HTTP 502", "HTTP 504", "HTTP 524"})
"""What a proxy answers that does not wait as long as we do: the wait is halved, not the transport given up."""


class Pushes(msgspec.Struct, frozen=True):
    """The answer to an attach or a poll."""

    pushes: list[Push]


_decode_pushes: Final = msgspec.json.Decoder(Pushes).decode


class LongPollLeg(Leg):
    """See `Leg`. After the attach it rests until it is confirmed, then it polls."""

    transport: ClassVar[str] = "longpoll"
    is_polled: ClassVar[bool] = True

    def __init__(self, host: LegHost, attach: Attach) -> None:
        super().__init__(host, attach)
        self._confirmed = asyncio.Event()
        self._polling: asyncio.Task[bytes | Ending] | None = None
        self._was_empty = False

    async def carry(self) -> Ending:
        """See `Leg.carry`."""
        poller = asyncio.create_task(self._poll_all())
        uplink = asyncio.create_task(Uplink(self).run())
        try:
            done, _ = await asyncio.wait({poller, uplink}, return_when=asyncio.FIRST_COMPLETED)
            return self.disconnected or (poller if poller in done else uplink).result()
        finally:
            await ended(poller, uplink)

    async def _poll_all(self) -> Ending:
        answer = await self._exchange(self.encoded_attach("json"), self.host.endpoint.connect_timeout_s)
        ending = self._take_answer(answer)
        if ending is not None:
            return ending
        if self.attached is None:
            return network("the answer holds no attached")
        if not self.attach.confirm:
            await self._confirmed.wait()
        pace = Backoff(0.05, 1.0)
        loop = asyncio.get_running_loop()
        has_new_token = False
        while True:
            started_s, is_confirming = loop.time(), self._confirmed.is_set() and not self.subscribed.is_set()
            answered = await self._poll(is_confirming)
            if answered is None:
                continue
            if isinstance(answered, Ending) and answered.is_about_credentials and not has_new_token:
                has_new_token = True
                self.host.credentials.invalidate()
                continue
            if (
                isinstance(answered, Ending)
                and answered.detail in _GATEWAY_FAILURES
                and loop.time() - started_s >= self.host.poll_wait_s / 4
                and self.host.poll_wait_s > _WAIT_MIN_S
            ):
                self.host.poll_wait_s = max(_WAIT_MIN_S, self.host.poll_wait_s / 2)
                continue
            ending = self._take_answer(answered)
            if ending is not None:
                return ending
            has_new_token = False
            if self._was_empty and loop.time() - started_s < 0.05:
                await asyncio.sleep(pace.next_delay_s())  # an empty answer at once is odd; never spin on it
            else:
                pace.reset()

    async def _poll(self, is_confirming: bool) -> bytes | Ending | None:
        """One poll. None when it was abandoned because what polls are made of has changed."""
        wait_s = self.host.poll_wait_s
        if self.attached is not None:
            wait_s = min(wait_s, self.attached.limits.poll_wait_max_s)
        poll = Poll(
            session=self.session,
            attempt=self.attempt,
            last_seq=self.host.last_seq,
            positions=self.host.positions(),
            sealed=self.host.sealed,
            wait_s=wait_s,
            confirm=is_confirming,
        )
        asked = asyncio.create_task(self._exchange(encode_command(poll, "json"), wait_s + _ANSWER_MARGIN_S))
        self._polling = asked
        try:
            await asyncio.wait({asked})
            # Also where the answer was there already: it would bring the former seal back, and end what is new in it.
            # Between this look and the taking of the answer nothing else may have its turn.
            return None if self._polling is not asked or asked.cancelled() else asked.result()
        finally:
            self._polling = None
            if not asked.done():
                await ended(asked)

    async def _exchange(self, body: bytes, timeout_s: float) -> bytes | Ending:
        headers = {
            **await self.host.credentials.headers(),
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        try:
            async with asyncio.timeout(timeout_s):
                return await self.host.endpoint.request("POST", STREAM_PATH, "longpoll", headers, content=body)
        except TimeoutError:
            return network("the poll was not answered in time")

    def _take_answer(self, answer: bytes | Ending) -> Ending | None:
        if isinstance(answer, Ending):
            return answer
        try:
            pushes = _decode_pushes(answer).pushes
            self._was_empty = not pushes
            for push in pushes:
                self.take_push(push)
        except (*DECODING_ERRORS, ProtocolError) as error:
            return network(f"the answer to a poll cannot be read: {error}")
        return self.disconnected

    def confirm(self, subscriptions: list[AttachSubscription]) -> None:
        """See `Leg.confirm`: the next poll says it, with positions in place of the list."""
        self._confirmed.set()

    def poll_anew(self) -> None:
        """Abandon the poll in flight and send it again with what is true now."""
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.cancel()
