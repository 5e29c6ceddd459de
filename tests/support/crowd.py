"""Hundreds of clients that read, and publishers that never rest: the load under which faults happen.

A crowd reads over all transports, some of it in MessagePack, each client two of the channels. Publications come in
pulses, by HTTP with an Idempotency-Key and from sessions; each is repeated with its key until it is answered. All that
happens is told to a `Checker`; `settle` ends it and gives the verdict.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import ssl
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx2

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.broker.base import Append, Appended
from hybrid.broker.redis.address import parse_address
from hybrid.broker.redis.broker import RedisBroker
from hybrid.client import Client, Timing
from hybrid.client.endpoint import Dial
from hybrid.errors import BrokerError, HybridError
from hybrid.limits import Limits
from hybrid.model import Position, PresenceEntry, Publication
from hybrid.protocol.commands import WirePosition
from hybrid.protocol.cursor import from_wire, parse_cursor
from tests.support.checker import Checker, Verdict
from tests.support.nodes import AUDIENCE

TIMING: Final = Timing(backoff_base_s=0.25, backoff_max_s=2.0, connect_timeout_s=8.0)
"""The client's own, but back within 2 s: otherwise politeness is all that is measured."""
CHANNELS: Final = tuple(f"room:{number}" for number in range(5))
_KINDS: Final = ("websocket", "sse", "longpoll")
_MSGPACK_EVERY: Final = 10  # of the WebSocket clients
_PULSE_S: Final = 0.6  # one publication on every channel, and
_BURST: Final = 5  # so many more at once on one of them
_OPENING_AT_ONCE: Final = 20  # below the bound on unauthenticated connections of one address
_OPEN_PUBLISHES_MAX: Final = 400  # while nothing is answered, no more are begun
_HTTP_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = 0.3
_QUIET_MAX_S: Final = 40.0
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """A publish that was answered with an error; it is repeated. `status` 0: not answered at all; -1: on a session."""

    at_s: float
    status: int
    name: str
    retry_after_s: float | None
    detail: str = ""


class Crowd:
    """See the module's text; made by `crowd`."""

    def __init__(
        self,
        dial: Dial,
        issuer: DevelopmentIssuer,
        group: asyncio.TaskGroup,
        *,
        url: str = AUDIENCE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.checker = Checker()
        self.clients: dict[str, Client] = {}
        self.refusals: list[Refusal] = []
        self.is_publishing = True
        self._dial = dial
        self._url = urlsplit(url)
        self._tls = tls
        self._issuer = issuer
        self._group = group
        self._http = httpx2.AsyncClient(trust_env=False, timeout=_HTTP_TIMEOUT_S, verify=tls or False)
        self._numbers = itertools.count(1)
        self._tokens: dict[str, str] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._open_publishes: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()

    # -- its life

    async def gather(self, size: int) -> None:
        """Connect all clients, and have them read."""
        gate = asyncio.Semaphore(_OPENING_AT_ONCE)

        async def join(number: int) -> None:
            async with gate:
                await self._join(number)

        await asyncio.gather(*(join(number) for number in range(size)))

    async def _join(self, number: int) -> None:
        kind = _KINDS[number % len(_KINDS)]
        is_packed = kind == "websocket" and (number // len(_KINDS)) % _MSGPACK_EVERY == 0
        name = f"{kind}{'-msgpack' if is_packed else ''}-{number}"
        client = Client(
            self._url.geturl(),
            lambda: self.token(f"user-{number}"),
            kind,
            encoding="msgpack" if is_packed else "json",
            dial=self._dial,
            tls=self._tls,
            timing=TIMING,
        )
        await client.__aenter__()
        self.clients[name] = client
        for channel in {CHANNELS[number % len(CHANNELS)], CHANNELS[(number // 7 + 1) % len(CHANNELS)]}:
            await self._read(name, client, channel)

    async def _read(self, name: str, client: Client, channel: str) -> None:
        subscription = await client.subscribe(channel)
        assert subscription.position is not None
        self.checker.subscribed(name, channel, subscription.position)
        subscription.on_reset = lambda position: self.checker.was_reset(name, channel, position)

        async def read() -> None:
            reason = ""
            try:
                async for publication in subscription:
                    self.checker.received(name, channel, publication.position, publication.data, time.monotonic())
            except HybridError as error:
                reason = str(error)
            self.checker.ended(name, channel, reason)

        self._readers.append(self._group.create_task(read()))

    async def leave(self) -> None:
        """Everybody goes."""
        for task in [*self._open_publishes, *self._readers]:
            task.cancel()
        await asyncio.gather(*(client.__aexit__(None, None, None) for client in self.clients.values()))
        await self._http.aclose()

    def token(self, subject: str) -> str:
        """The one token of a subject; they outlive every test."""
        if subject not in self._tokens:
            self._tokens[subject] = self._issuer.mint(subject, FULL_SCOPE)
        return self._tokens[subject]

    # -- publishing

    async def publish_forever(self) -> None:
        """Pulses on one channel after the other, in turn by HTTP and from sessions."""
        sessions = itertools.cycle(list(self.clients))
        for turn in itertools.count():
            await asyncio.sleep(_PULSE_S * random.uniform(0.5, 1.5))
            if not self.is_publishing:
                return
            for number, channel in enumerate([*CHANNELS, *[CHANNELS[turn % len(CHANNELS)]] * _BURST]):
                if len(self._open_publishes) < _OPEN_PUBLISHES_MAX:
                    self.publish(channel, next(sessions) if number % 2 else None)

    def publish(self, channel: str, session: str | None = None) -> str:
        """Begin to publish something by HTTP, or from the session of a client; returns its id."""
        id, data = self._new(channel)
        publishing = self._publish_on_session(id, channel, data, session) if session else self._post(id, channel, data)
        task = self._group.create_task(publishing)
        self._open_publishes.add(task)
        task.add_done_callback(self._open_publishes.discard)
        return id

    async def publish_answered(self, channel: str, count: int) -> list[str]:
        """Publish by HTTP, one after the other, and return the ids when all are answered."""
        ids = []
        for _ in range(count):
            id = self.publish(channel)
            ids.append(id)
            while id not in self.checker.answers:  # noqa: ASYNC110 -- the checker tells nobody
                await asyncio.sleep(0.002)
        return ids

    async def publish_past_the_nodes(self, url: str, channel: str, count: int) -> None:
        """Publish straight into a Redis, as a node that nobody here knows would."""
        broker = RedisBroker(parse_address(url), "hybrid", Limits())
        await broker.open(_Deaf())
        try:
            for _ in range(count):
                id, data = self._new(channel)
                kept = {"history_size": 1_000_000, "history_ttl_s": 3_600.0}
                append = Append(channel=channel, data=json.dumps(data).encode(), **kept)
                [result] = await broker.append([append])
                assert isinstance(result, Appended), result
                self.checker.answered(id, result.position, time.monotonic())
        finally:
            await broker.close()

    def _new(self, channel: str) -> tuple[str, Any]:
        id = f"p{next(self._numbers)}"
        data = {"id": id, "text": f"{random.getrandbits(256):064x}"}
        self.checker.asked(id, channel, data, time.monotonic())
        return id, data

    async def _post(self, id: str, channel: str, data: Any) -> None:
        path = f"/v1/channels/{quote(channel, safe='')}"
        headers = {"Content-Type": "application/json", "Idempotency-Key": id}
        while True:
            try:
                answer = await self._request("POST", path, headers, json.dumps(data).encode())
            except httpx2.HTTPError as error:
                self._refused(0, type(error).__name__, None)
                await asyncio.sleep(_RETRY_S)
                continue
            # What is not JSON was said by something in between, such as nginx' page for 502.
            is_ours = "json" in answer.headers.get("Content-Type", "")
            body = answer.json() if is_ours else {"name": "of a proxy"}
            if answer.status_code == 200:
                position = from_wire(WirePosition(body["offset"], body["epoch"], body["tag"]))
                self.checker.answered(id, position, time.monotonic())
                return
            told = answer.headers.get("Retry-After")
            self._refused(answer.status_code, str(body.get("name")), float(told) if told else None, str(body))
            await asyncio.sleep(min(float(told) if told else _RETRY_S, 1.0))

    async def _publish_on_session(self, id: str, channel: str, data: Any, name: str) -> None:
        while True:
            try:
                position = await self.clients[name].publish(channel, data, key=id)
            except BrokerError as error:
                self._refused(-1, error.row.name, error.retry_after_s, str(error))
                await asyncio.sleep(min(error.retry_after_s or _RETRY_S, 1.0))
            else:
                self.checker.answered(id, position, time.monotonic())
                return

    def _refused(self, status: int, name: str, retry_after_s: float | None, detail: str = "") -> None:
        self.refusals.append(Refusal(time.monotonic(), status, name, retry_after_s, detail))

    async def _request(
        self, method: str, path: str, headers: dict[str, str] | None = None, content: bytes = b""
    ) -> httpx2.Response:
        host, port = self._dial("http") if callable(self._dial) else self._dial
        sent = {"Host": self._url.netloc, "Authorization": f"Bearer {self.token('backend')}", **(headers or {})}
        return await self._http.request(
            method,
            f"{self._url.scheme}://{host}:{port}{path}",
            headers=sent,
            content=content,
            extensions={"sni_hostname": self._url.hostname},
        )

    # -- faults and the end

    def fault_ended(self) -> None:
        """The time to heal begins here."""
        self.checker.fault_ended(time.monotonic())

    @property
    def ended(self) -> list[str]:
        """The streams that have ended by themselves, and why."""
        return [f"{key}: {stream.end}" for key, stream in self.checker.streams.items() if stream.end]

    async def until_healed(self, max_s: float = 40.0) -> float:
        """Wait until every stream has got something that was published after the fault; the seconds it took."""
        await self.until(
            lambda: self.checker.has_healed,
            max_s,
            lambda: f"ended: {self.ended[:10]}; not healed: {self._told(self.checker.unhealed)}",
        )
        assert self.checker.fault_ended_s is not None
        return time.monotonic() - self.checker.fault_ended_s

    async def until(self, is_true: Any, max_s: float, tell: Any = None) -> None:
        """Poll. Raises AssertionError with what `tell` says when time is up."""
        end_s = time.monotonic() + max_s
        while not is_true():
            assert time.monotonic() < end_s, tell() if tell else f"it did not come true within {max_s} s"
            await asyncio.sleep(0.02)

    async def settle(self, max_s: float = _QUIET_MAX_S) -> Verdict:
        """Stop publishing, wait until everything is answered and every reader at the head, read the logs, judge."""
        self.is_publishing = False
        await self.until(
            lambda: not self._open_publishes,
            max_s,
            lambda: f"not answered: {self.checker.unanswered[:10]}, {self.refusals[-3:]}",
        )
        heads = {}
        for channel in CHANNELS:
            log = await self.read_log(channel)
            self.checker.read_log(channel, log)
            heads[channel] = log[-1][0] if log else Position(0)
        with contextlib.suppress(AssertionError):  # the verdict says it better
            await self.until(lambda: not self.checker.behind(heads), max_s)
        verdict = self.checker.verdict()
        if verdict.broken:
            print(self._told([(finding.split(" on ")[0], "") for finding in verdict.findings]))
        return verdict

    async def read_log(self, channel: str) -> list[tuple[Position, Any]]:
        """The whole log of a channel, by HTTP."""
        log: list[tuple[Position, Any]] = []
        path = f"/v1/history/{quote(channel, safe='')}?limit={_PAGE}"
        after = ""
        while True:
            answer = await self._request("GET", path + after)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            for item in page["publications"]:
                log.append((Position(item["offset"], item["epoch"], item["tag"]), item["data"]))
            if not page["publications"] or log[-1][0] == parse_cursor(page["cursor"]):
                return log
            after = f"&after={quote(_cursor(log[-1][0]))}"

    def counts(self) -> dict[str, int]:
        """What the clients counted, all together."""
        total: Counter[str] = Counter()
        for client in self.clients.values():
            for name in ("received", "dropped", "gaps", "resets", "attaches"):
                total[name] += getattr(client.stats, name)
        return dict(total)

    def refused_between(self, from_s: float, to_s: float = float("inf")) -> Iterator[Refusal]:
        """The errors of publishes in a span of time."""
        return (refusal for refusal in self.refusals if from_s <= refusal.at_s <= to_s)

    def _told(self, keys: list[tuple[str, str]], clients_max: int = 6) -> str:
        lines = [f"{len(keys)} streams: {keys[:20]}"]
        for name in list(dict.fromkeys(key[0] for key in keys))[:clients_max]:
            if name not in self.clients:
                continue
            client = self.clients[name]
            lines.append(f"{name}: {client.stats}")
            lines += [
                f"  {e.at_s:.2f} {e.what} {e.transport} {e.attempt} {e.number} {e.detail}"
                for e in deque(client.log, maxlen=12)
            ]
        return "\n".join(lines)


class _Deaf:
    """Implements `BrokerListener`, and is told nothing."""

    def published(self, publication: Publication) -> None: ...

    def presence_changed(self, channel: str, entry: PresenceEntry, has_joined: bool) -> None: ...

    def purged(self, channel: str, position: Position, former: str) -> None: ...

    def gap(self, channels: Sequence[str] | None) -> None: ...


def _cursor(position: Position) -> str:
    return f"{position.epoch}-{position.offset}-{position.tag}"


@asynccontextmanager
async def crowd(
    dial: Dial, issuer: DevelopmentIssuer, size: int, *, url: str = AUDIENCE, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Crowd]:
    """A crowd that reads, and publishes. `url` and `tls` are how clients know the site, wherever they dial."""
    try:
        async with asyncio.TaskGroup() as group:
            made = Crowd(dial, issuer, group, url=url, tls=tls)
            publishing = None
            try:
                await made.gather(size)
                publishing = group.create_task(made.publish_forever())
                yield made
            finally:
                if publishing is not None:
                    publishing.cancel()
                await made.leave()
    except BaseExceptionGroup as several:
        if len(several.exceptions) == 1:
            raise several.exceptions[0] from None  # the test's own, which is no less readable for being alone
        raise
