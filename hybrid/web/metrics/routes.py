"""`GET /metrics`: what this process counts, or what all workers of this machine do."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from quart import Blueprint, Response, request

from hybrid.auth.bearer import www_authenticate
from hybrid.clock import Clock
from hybrid.errors import HybridError
from hybrid.protocol.codec import problem
from hybrid.web.metrics.collect import Collector
from hybrid.web.metrics.families import Family, gauge, merged
from hybrid.web.metrics.readers import Readers
from hybrid.web.metrics.siblings import Siblings
from hybrid.web.metrics.text import exposed
from hybrid.web.shared import Shared

KEPT_S: Final = 1.0
"""How long what was read counts: several that scrape at once, and one that asks in a loop, cost one reading."""


class _Told(msgspec.Struct):
    """What one worker says of itself."""

    is_leaving: bool
    families: list[Family]


class Metrics:
    """What is told. By itself it is of this process; once it `belongs` to several, of all of them."""

    def __init__(self, collector: Collector, clock: Clock) -> None:
        self._collector = collector
        self._own = Shared(self._tell, clock, KEPT_S)
        self._siblings: Siblings | None = None
        self.is_leaving = False
        """Whether another worker has taken this one's place, or will."""

    def start(self) -> None:
        """Begin to measure what needs a clock. Inside the event loop."""
        self._collector.loop_lag.start()

    def belong(self, directory: str, number: int) -> None:
        """Be one of several workers from now on: they meet in this directory."""
        self._siblings = Siblings(directory, number, self._own)

    async def meet(self) -> None:
        """Let the others ask this one: from when it accepts, or it would be taken for the one that it succeeds."""
        if self._siblings is not None:
            await self._siblings.start()

    async def close(self) -> None:
        """Stop measuring, and answer nobody."""
        self._collector.loop_lag.stop()
        if self._siblings is not None:
            await self._siblings.close()

    async def families(self) -> list[Family]:
        """Everything that is to be told now. Cancel-safe."""
        if self._siblings is None:
            return _read(await self._own()).families
        own, (others, silent) = await asyncio.gather(self._own(), self._siblings.ask())
        answers = sorted([(self._siblings.number, 0, own), *others], key=lambda answer: answer[:2])
        workers: dict[str, list[Family]] = {}
        for number, _, raw in answers:
            try:
                told = _read(raw)
            except msgspec.MsgspecError:  # of another version, or cut off
                silent += 1
                continue
            name = f"{number}-leaving" if told.is_leaving else str(number)
            workers.setdefault(name, told.families)
        return [
            *merged(workers.items()),
            gauge("hybrid_workers", "Workers whose counts are here.", len(workers)),
            gauge("hybrid_workers_silent", "Workers that did not tell theirs in time.", silent),
        ]

    async def _tell(self) -> bytes:
        return msgspec.json.encode(_Told(self.is_leaving, await self._collector.families()))


def metrics_blueprint(metrics: Metrics, readers: Readers) -> Blueprint:
    """The route."""
    blueprint = Blueprint("hybrid_metrics", __name__)

    @blueprint.get("/metrics")
    async def tell() -> Response:
        headers = list(request.scope["headers"])
        try:
            await readers.check(headers, request.remote_addr or "")
        except HybridError as error:
            return _refusal(error)
        text, content_type = exposed(await metrics.families(), request.headers.get("Accept", ""))
        return Response(text, content_type=content_type, headers={"Cache-Control": "no-store"})

    return blueprint


def _refusal(error: HybridError) -> Response:
    refusal = Response(problem(error), status=error.row.http_status, content_type="application/problem+json")
    refusal.headers["Cache-Control"] = "no-store"
    challenge = www_authenticate(error)
    if challenge:
        refusal.headers["WWW-Authenticate"] = challenge
    if error.retry_after_s is not None:
        refusal.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return refusal


def _read(raw: bytes) -> _Told:
    return _decode(raw)


_decode: Final = msgspec.json.Decoder(_Told).decode
