"""The transport that has to work: one POST after the other, each answered whole."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence

from hybrid.client.doctor.finding import Finding, Pace, fails, works
from hybrid.client.doctor.lines import Broken, answered_by, attach, unless_told
from hybrid.client.doctor.words import duration, milliseconds, passed, said_by
from hybrid.client.endpoint import HTTP_ERRORS, Endpoint, read_bounded
from hybrid.client.leg import STREAM_PATH
from hybrid.errors import ProtocolError
from hybrid.protocol.codec import JSON
from hybrid.protocol.pushes import Attached, Push


class Polling:
    """A session that is polled."""

    def __init__(self, endpoint: Endpoint, token: str | None, patience_s: float) -> None:
        self.attached: Attached | None = None
        self.facts: list[str] = []
        """What the first answer told of the way."""
        self._endpoint = endpoint
        self._token = token
        self._patience_s = patience_s
        self._sealed = ""
        self._clock = asyncio.get_running_loop().time

    async def attach(self) -> float:
        """Begin it; gives how long that took. Raises Broken, Told."""
        began_s = self._clock()
        nonce = secrets.token_hex(8)
        for push in await self._post(attach(nonce), self._patience_s):
            if push.attached is not None and push.attached.nonce == nonce:
                self.attached = push.attached
            if push.subscribed is not None:
                self._sealed = push.subscribed.sealed
        if self.attached is None:
            raise Broken("changed", "what came back is not ours")
        return self._clock() - began_s

    async def poll(self, wait_s: float) -> float:
        """A request that waits; gives how long it did. Raises Broken, Told."""
        assert self.attached is not None
        poll = {"method": "poll", "session": self.attached.session, "attempt": 1, "positions": [], "last_seq": 0}
        body = json.dumps({**poll, "wait_s": wait_s, "sealed": self._sealed}).encode()
        began_s = self._clock()
        await self._post(body, wait_s + self._patience_s)
        return self._clock() - began_s

    async def _post(self, body: bytes, patience_s: float) -> Sequence[Push]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Cache-Control": "no-store"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            async with asyncio.timeout(patience_s):
                async with self._endpoint.stream("POST", STREAM_PATH, "longpoll", headers, content=body) as answer:
                    raw = await read_bounded(answer)
        except TimeoutError:
            raise Broken("unanswered", f"no answer within {patience_s:g} s") from None
        except HTTP_ERRORS as error:
            raise Broken("refused", f"the request failed: {said_by(error)}") from None
        if answer.status_code != 200:
            raise answered_by(answer, raw)
        self.facts = passed(answer.headers)
        try:
            pushes = [JSON.decode_push(json.dumps(push).encode()) for push in json.loads(raw)["pushes"]]
        except (ValueError, KeyError, TypeError, RecursionError, ProtocolError):
            raise Broken("changed", "what came back is not ours: answers are changed on the way") from None
        return unless_told(pushes)


async def try_polling(polling: Polling, pace: Pace) -> Finding:
    """Attach, and let one poll wait. Raises Told."""
    clock = asyncio.get_running_loop().time
    try:
        first_s = await polling.attach()
    except Broken as broken:
        return fails("longpoll", broken.flaw, *broken.facts)
    told = f"answered in {duration(first_s)}"
    figures = {"first_ms": milliseconds(first_s), "wait_ms": milliseconds(pace.wait_s)}
    asked_s = clock()
    try:
        waited_s = await polling.poll(pace.wait_s)
    except Broken as broken:
        after_s = clock() - asked_s
        figures["cut_after_ms"] = milliseconds(after_s)
        # The client asks for half of the time then, and so on: no reason to give long polling up.
        cut = f"a poll that waits is cut after {after_s:.1f} s ({broken.facts[0]}); shorter ones are used then"
        return works("longpoll", told, cut, *broken.facts[1:], figures=figures)
    return works(
        "longpoll", f"{told}, a poll of {pace.wait_s:g} s after {waited_s:.1f} s", *polling.facts, figures=figures
    )
