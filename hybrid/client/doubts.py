"""Whether it is the network, the transport or the server: who is asked, and what is concluded.

Rules: `docs/javascript-client.md`, "Which transport carries it"; both clients have the same ones.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, Final

from hybrid.client.ending import Ending, network
from hybrid.client.endpoint import Endpoint
from hybrid.client.ladder import Ladder, Story
from hybrid.client.leg import Leg
from hybrid.client.timing import Timing
from hybrid.client.values import Hooks, Unreachable
from hybrid.client.vigil import Vigil

_PING_MAX_S: Final = 5.0


class Doubts:
    """What is asked runs beside everything else, as tasks of `group`, until `close`."""

    def __init__(
        self, endpoint: Endpoint, ladder: Ladder, timing: Timing, hooks: Hooks, group: asyncio.TaskGroup
    ) -> None:
        self.sound: str | None = None
        """What worked until now, for a while and until its end; None: nothing."""
        self._endpoint = endpoint
        self._ladder = ladder
        self._timing = timing
        self._hooks = hooks
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._errands: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def close(self) -> None:
        """Ask nothing any more; what is under way ends."""
        self._is_closed = True
        for errand in self._errands:
            errand.cancel()

    async def is_server_there(self) -> bool:
        """A plain request passes wherever anything does. A sign-in page, or the gateway in front of a server that is
        away, says something else."""
        headers = {"Cache-Control": "no-store"}
        answer = await self._endpoint.request_within(_PING_MAX_S, "GET", "/v1/ping", "longpoll", headers)
        if isinstance(answer, Ending):
            return False
        try:
            return bool(json.loads(answer)["at_ms"] > 0)
        except (ValueError, KeyError, TypeError, RecursionError):
            return False

    def watch(self, leg: Leg, is_current: Callable[[], bool]) -> None:
        """Ask a stream for signs of life for as long as it carries the session, and end it when none comes."""
        if leg.attached is not None and leg.attached.limits.echo_interval_s and not leg.is_polled:
            self._begin(self._watch(leg, is_current))

    def judge(self, leg: Leg, ending: Ending, *, is_taking: bool) -> None:
        """What the end of a leg says of its transport."""
        if leg.ready_s is None and not leg.fault:
            if ending.is_network and not leg.is_aborted:
                self._ladder.failed(leg.transport, "dying" if leg.attached is not None else "refused")
            return
        if not is_taking:
            return
        lived_s = 0.0 if leg.ready_s is None else self._loop.time() - leg.ready_s
        self.sound = leg.transport if lived_s >= self._timing.settled_after_s and not leg.fault else None
        # A gateway that answers 503 and the like, or a close in form, speaks of the server, not of the transport.
        was_cut = ending.is_network and not ending.status and not leg.is_aborted
        if leg.attached is not None and not leg.is_polled and (leg.fault or was_cut):
            story = Story(lived_s, leg.idle_s, leg.attached.heartbeat_interval_s, leg.fault)
            self._begin(self._blame(leg.transport, story))

    def tell_unreachable(self, endings: dict[str, Ending], is_still: Callable[[], bool]) -> None:
        """All transports have failed; `is_still` says whether that is so when it is known what the server does."""
        self._begin(self._tell_unreachable({name: ending.detail for name, ending in endings.items()}, is_still))

    async def _watch(self, leg: Leg, is_current: Callable[[], bool]) -> None:
        vigil = Vigil(leg, self._timing.patience_s)
        assert leg.task is not None
        while True:
            watching = asyncio.create_task(vigil.until_in_doubt())
            try:
                await asyncio.wait({watching, leg.task}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                watching.cancel()
            if not is_current():
                return
            # After sleep it needs no explanation; otherwise it is the transport, if others get through.
            is_fault = not leg.is_woken and await self.is_server_there()
            if not is_current():
                return
            if leg.echoed < leg.asked:
                leg.abort(network("no sign of life came when it was asked for"), "mute" if is_fault else "")
                return

    async def _blame(self, transport: str, story: Story) -> None:
        if story.fault or await self.is_server_there():
            self._ladder.broke(transport, story)

    async def _tell_unreachable(self, attempts: dict[str, str], is_still: Callable[[], bool]) -> None:
        error = Unreachable(attempts, await self.is_server_there())
        if is_still():
            self._hooks.error(error)

    def _begin(self, errand: Coroutine[Any, Any, None]) -> None:
        if self._is_closed:
            errand.close()
            return
        task = self._group.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
