"""Asks servers for their metrics, and the deployment for its nodes and channels. Nothing is raised: what cannot be told
has a sentence that says why, because a view of what goes wrong must not end when something does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from hybrid.client.ending import Ending, network
from hybrid.client.endpoint import Endpoint
from hybrid.errors import BY_NUMBER, HybridError
from hybrid.protocol.management import ChannelAnswer, ChannelItem, ChannelsAnswer, NodeItem, NodesAnswer
from hybrid.top.reading import read
from hybrid.top.snapshot import Channel, Channels, Server, Snapshot, Trouble

PATIENCE_S: Final = 10.0
"""For one answer: workers and nodes are waited for by the server, for 2 s."""
PAGE: Final = 500
PAGES_MAX: Final = 20
"""Of channels that are looked through for those with the most subscribers."""
_AT_ONCE: Final = 4
"""Channels that are asked for their heads: connections that are kept."""
_TEXT: Final = "text/plain; version=0.0.4"
_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class Source:
    """A server, under the name it is shown by, and where a token for it comes from (None: it is asked without)."""

    name: str
    endpoint: Endpoint
    get_token: Callable[[], Awaitable[str | None]]
    _token: str | None = None
    _has_token: bool = False

    async def get(self, path: str, accept: str = "application/json") -> bytes | Ending:
        """The body of a 200, else how it ended. A token that is refused is replaced, once."""
        for _ in range(2):
            try:
                if not self._has_token:
                    self._token, self._has_token = await self.get_token(), True
            except HybridError as error:
                return Ending(error.row.number, str(error))
            except ConnectionError as error:
                return network(error)
            headers = {"Accept": accept, **({"Authorization": f"Bearer {self._token}"} if self._token else {})}
            answer = await self.endpoint.request_within(PATIENCE_S, "GET", path, "longpoll", headers)
            if not isinstance(answer, Ending) or not _is_about_the_token(answer):
                break
            self._has_token = False
            if not self._token:
                break
        return answer


class Asker:
    """Looks at a deployment. `channels` is how many of those with the most subscribers are asked for their heads."""

    def __init__(
        self,
        sources: Sequence[Source],
        channels: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._channels = channels
        self._clock = clock
        self._wall = wall

    async def look(self, prefix: str = "") -> Snapshot:
        """Everything at one moment, channels by this prefix. Cancel-safe."""
        servers, nodes, channels = await asyncio.gather(
            asyncio.gather(*(self._server(source) for source in self._sources)),
            self._nodes(),
            self._busiest(prefix),
        )
        return Snapshot(self._clock(), self._wall(), tuple(servers), nodes, channels)

    async def _server(self, source: Source) -> Server:
        answer = await source.get("/metrics", _TEXT)
        at_s = self._clock()
        if isinstance(answer, Ending):
            return Server(source.name, at_s, trouble=await self._no_metrics(source, answer))
        try:
            return Server(source.name, at_s, read(answer.decode("utf-8", "replace")))
        except ValueError as error:
            words = f"{source.name} answers with something else at /metrics ({error}); not a hybrid server?"
            return Server(source.name, at_s, trouble=Trouble("unreachable", words))

    async def _no_metrics(self, source: Source, answer: Ending) -> Trouble:
        if answer.status == 404:
            # Metrics that are off and another program look alike; what every hybrid server answers tells them apart.
            ping = await source.endpoint.request_within(PATIENCE_S, "GET", "/v1/ping", "longpoll", {})
            if not isinstance(ping, Ending) and b'"at_ms"' in ping:
                return Trouble("absent", f"{source.name} has no metrics: set `metrics = true` there")
        return _trouble(source, answer, "its metrics", "hybrid:metrics")

    async def _nodes(self) -> tuple[NodeItem, ...] | Trouble:
        source, answer = await self._first("/v1/info/nodes")
        told = _decoded(answer, NodesAnswer)
        if isinstance(told, Ending):
            return _trouble(source, told, "the nodes", "hybrid:nodes")
        return tuple(told.nodes)

    async def _busiest(self, prefix: str) -> Channels | Trouble | None:
        if not self._channels:
            return None
        seen: list[ChannelItem] = []
        after = None
        for _ in range(PAGES_MAX):
            query = {
                "limit": str(PAGE),
                **({"prefix": prefix} if prefix else {}),
                **({"after": after} if after else {}),
            }
            source, answer = await self._first(f"/v1/info/channels?{urlencode(query, quote_via=quote)}")
            page = _decoded(answer, ChannelsAnswer)
            if isinstance(page, Ending):
                return _trouble(source, page, "the channels", "hybrid:channels:*")
            seen += page.channels
            after = page.next
            if after is None:
                break
        top = sorted(seen, key=lambda item: (-item.subscribers, item.channel))[: self._channels]
        places = asyncio.Semaphore(_AT_ONCE)
        items = await asyncio.gather(*(self._channel(item, places) for item in top))
        return Channels(tuple(items), len(seen), after is not None)

    async def _channel(self, item: ChannelItem, places: asyncio.Semaphore) -> Channel:
        known = Channel(item.channel, item.subscribers)
        async with places:
            _, answer = await self._first(f"/v1/info/channels/{quote(item.channel, safe='')}")
        told = _decoded(answer, ChannelAnswer)
        if isinstance(told, Ending):
            return known  # its subscribers are known all the same
        head = told.position
        return replace(known, subscribers=told.subscribers, at_s=self._clock(), epoch=head.epoch, offset=head.offset)

    async def _first(self, path: str) -> tuple[Source, bytes | Ending]:
        """The answer of the first server that is there: what concerns all of them is told by any."""
        found: tuple[Source, bytes | Ending] | None = None
        for source in self._sources:
            answer = await source.get(path)
            if not isinstance(answer, Ending) or not answer.is_network:
                return source, answer
            found = found or (source, answer)
        assert found is not None, "there is no server to ask"
        return found


def _is_about_the_token(answer: Ending) -> bool:
    """Unlike a session, which ends for good by some of these: a development issuer that was restarted has a new key."""
    row = BY_NUMBER.get(answer.number)
    return row is not None and row.http_status == 401


def _decoded(answer: bytes | Ending, kind: type[_Answer]) -> _Answer | Ending:
    if isinstance(answer, Ending):
        return answer
    try:
        return msgspec.json.decode(answer, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return network("the answer is not that of a hybrid server")


def _trouble(source: Source, answer: Ending, what: str, scope: str) -> Trouble:
    if answer.number == 3403:
        return Trouble("refused", f"{source.name} does not tell {what}: the token lacks the scope {scope}")
    if answer.number == 3401:
        words = (
            f"{source.name} does not tell {what}: {answer.detail} A token is taken from HYBRID_TOKEN or --token-file."
        )
        return Trouble("refused", words)
    if answer.number:
        return Trouble("refused", f"{source.name} does not tell {what}: {answer.detail} ({answer.number})")
    if answer.detail.startswith("Cannot reach"):
        return Trouble("unreachable", answer.detail)
    hint = ", not a hybrid server?" if answer.status else ""
    return Trouble("unreachable", f"Cannot reach {source.name}: {answer.detail or 'the connection failed'}{hint}")


def first(troubles: Iterable[Trouble]) -> Trouble | None:
    """The one to tell, where only one is: that nobody is there explains the others."""
    found = list(troubles)
    return next((trouble for trouble in found if trouble.kind == "unreachable"), found[0] if found else None)
