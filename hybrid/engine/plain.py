"""Plain channels on a stream: no session, no commands; positions travel as event ids, or with every publication."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from hybrid.auth.door import Admission
from hybrid.auth.revocation import Key
from hybrid.auth.tickets import KEEP_EVERY_S, Claim
from hybrid.engine.counts import CHANNELS
from hybrid.engine.encodings import PLAIN_EVENT, PLAIN_JSON
from hybrid.engine.feed import Feed
from hybrid.engine.holders import Match
from hybrid.engine.link import Link, address_of
from hybrid.errors import TABLE, HybridError, LimitError, ProtocolError
from hybrid.logs import fields, speaking
from hybrid.model import Position, Principal
from hybrid.protocol import eventstream
from hybrid.protocol.codec import JSON
from hybrid.protocol.commands import Auth
from hybrid.protocol.cursor import format_composite, format_cursor, to_wire

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine

_log = logging.getLogger(__name__)
_access = logging.getLogger("hybrid.access")
RETRY_MS = 3_000
"""What an event stream tells a browser to wait before it reconnects."""


class PlainStream:
    """One stream of 1 to 16 channels. The owner of its link, the listener of its feed, a timer on the wheel."""

    __slots__ = (
        "_admission",
        "_channels",
        "_engine",
        "_feed",
        "_history",
        "_is_ended",
        "_is_verifying",
        "_kept_s",
        "_positions",
        "_principal",
        "_ticket",
        "answers_probes",
        "link",
    )

    link: Link

    def __init__(
        self,
        engine: Engine,
        channels: Sequence[str],
        positions: Mapping[str, Position],
        history: int,
        principal: Principal | None,
        admission: Admission | None,
        ticket: Claim | None = None,
    ) -> None:
        self._engine = engine
        self._channels = tuple(sorted(channels))
        self._positions: Mapping[str, Position] | None = positions
        self._history = history
        self._principal = principal
        self._admission = admission
        self._ticket = ticket
        self._kept_s = engine.clock.monotonic_s()
        self._feed: Feed | None = None
        self._is_ended = False
        self._is_verifying = False
        self.answers_probes = False

    @property
    def transport(self) -> str:
        """What carries it."""
        return "websocket" if self.link.is_bidirectional else "sse"

    @property
    def feed(self) -> Feed | None:
        """Its feed, once its start is being looked for."""
        return self._feed

    def log_fields(self) -> Mapping[str, object]:
        """See `logs.Source`."""
        if getattr(self, "link", None) is None:  # while it is being opened
            return {"principal": self._principal}
        return {"remote": address_of(self.link.peer), "transport": self.transport, "principal": self._principal}

    def opened(self, link: Link, *, answers_probes: bool) -> None:
        """The link is there; `answers_probes`: a silent peer can be told from an idle one on it."""
        self.link = link
        self.answers_probes = answers_probes
        self._engine.open.add(self)
        if self._principal is not None:
            self._engine.open.identified(self, self._principal)
        self._engine.counts.opened[self.transport, CHANNELS] += 1
        if self._ticket is not None:
            self._engine.ticket_streams.opened(self._ticket, self)
        if not link.is_bidirectional:
            self._write(eventstream.PADDING + eventstream.block(retry_ms=RETRY_MS))
        if self._principal is None:
            self._engine.wheel.schedule(self, self._engine.limits.auth_timeout_s)
        elif self.end_if(self._engine.revocations.match) is None:  # while the link was opened nobody could end it
            self._begin()

    def end(self, error: str, *, detail: str = "", delay_ms: int = 0) -> None:
        """Close the stream. An event stream has no place for the reason but a comment and its `retry:`."""
        if self._is_ended:
            return
        self._is_ended = True
        if self._feed is not None:
            self._feed.close()
        row = TABLE[error]
        if not self.link.is_bidirectional:
            retry = eventstream.block(retry_ms=RETRY_MS + delay_ms) if row.comes_back else b""
            self._write(eventstream.comment(f"{row.number} {row.name}: {detail or row.meaning}") + retry)
        self.link.close(row.number, detail or row.name)

    def send_away(self, error: str, *, reason: str, delay_ms: int) -> bool:
        """See `Holder.send_away`."""
        if self._is_ended:
            return False
        self.end(error, detail=reason, delay_ms=delay_ms)
        return True

    # -- its token

    def principals(self) -> Iterable[Principal]:
        """See `Holder.principals`."""
        return () if self._principal is None else (self._principal,)

    def end_if(self, match: Match) -> Key | None:
        """See `Holder.end_if`."""
        reason = None if self._principal is None or self._is_ended else match(self._principal)
        if reason is not None:
            self.end("forbidden_or_revoked")
        return reason

    def receive_again(self, principal: Principal) -> None:
        """See `Holder.receive_again`. The stream is of all its channels or none."""
        if self._principal is None or self._is_ended or self._principal.token_hash != principal.token_hash:
            return
        self._principal = principal
        try:
            for channel in self._channels:
                if not self._engine.operations.may_read_on(principal, channel):
                    self._engine.operations.check_subscribe(principal, channel)
        except HybridError as error:
            self.end(error.row.name)
            return
        self._schedule()

    # -- the link's callbacks

    def link_received(self, message: bytes, is_text: bool) -> None:
        """See `LinkOwner`. Only `auth`, once and first; also where it is not needed, which a client cannot know."""
        if self._is_ended:
            return
        if self._is_verifying or (self._principal is not None and not self._principal.is_anonymous):
            self.end("protocol_error", detail="Nothing can be sent on this stream.")
            return
        try:
            command = JSON.decode_command(message, self._engine.limits.auth_frame_max_bytes)
            if not is_text or not isinstance(command, Auth):
                raise ProtocolError
        except ProtocolError:
            self.end("unauthorized", detail="Send `auth` with a token first.")
            return
        self._is_verifying = True
        self._engine.tasks.spawn(self._verify(command.token))

    def link_paused(self) -> None:
        """See `LinkOwner`."""
        self._engine.slow.paused(self.link)
        if self._feed is not None:
            self._feed.link_paused()

    def link_resumed(self) -> None:
        """See `LinkOwner`."""
        self._engine.slow.gone(self.link)
        if self._feed is not None:
            self._feed.link_resumed()

    def link_closed(self, code: int, reason: str) -> None:
        """See `LinkOwner`."""
        self._is_ended = True
        self._engine.open.discard(self)
        self._engine.slow.gone(self.link)
        self._engine.counts.left(self.transport, code)
        _access.info(
            "%s %s channels=%d code=%d",
            self.link.peer,
            self.transport,
            len(self._channels),
            code,
            extra=fields(event="closed", code=code, channels=len(self._channels), **self.log_fields()),
        )
        self._engine.wheel.cancel(self)
        self._admitted()
        if self._ticket is not None:
            self._engine.ticket_streams.closed(self._ticket, self)
        if self._feed is not None:
            self._feed.close()

    # -- the feed's callbacks

    def feed_reset(self, channel: str, position: Position) -> None:
        """See `FeedEvents`."""
        if self.link.is_bidirectional:
            wire = to_wire(position)
            reset = {"offset": wire.offset, "epoch": wire.epoch, "tag": wire.tag} if wire.offset else {"offset": 0}
            self._write(_json({"channel": channel, "reset": reset}))
            return
        moved = {channel: position}
        data = {"channel": channel, "cursor": format_cursor(position)}
        self._write(eventstream.event(_json(data).decode(), id=self._cursor(moved), event="hybrid.reset"))

    def feed_fell_behind(self, channel: str) -> bool:
        """See `FeedEvents`."""
        if self._engine.operations.namespace(channel).on_lag == "close":
            self.end("slow_client")
            return False
        return True

    # -- time

    def wheel_fired(self) -> None:
        """Heartbeat, and the ends of things: of the wait for a token, of a token, of a silent peer."""
        engine = self._engine
        if self._principal is None:
            self.end("auth_timeout")
            return
        if self._principal.expires_at_s <= engine.clock.wall_s():
            self.end("token_expired")
            return
        limits = engine.limits
        now_s = engine.clock.monotonic_s()
        silence_max_s = limits.heartbeat_interval_s * limits.heartbeat_grace_intervals
        if self.answers_probes and self.link.is_bidirectional and now_s - self.link.last_received_s > silence_max_s:
            self.end("heartbeat_timeout")
            return
        self.link.probe()
        if self._ticket is not None and now_s - self._kept_s >= KEEP_EVERY_S:
            self._kept_s = now_s
            engine.tasks.spawn(self._keep_ticket(self._ticket.ticket_hash))
        self._schedule()

    # -- inside

    def _begin(self) -> None:
        self._schedule()
        self._engine.tasks.spawn(self._recover())

    def _schedule(self) -> None:
        assert self._principal is not None
        left_s = max(0.0, self._principal.expires_at_s - self._engine.clock.wall_s())
        self._engine.wheel.schedule(self, min(self._engine.limits.heartbeat_interval_s, left_s))

    async def _verify(self, token: str) -> None:
        speaking.set(self)
        has_begun = self._principal is not None
        try:
            self._principal = await self._engine.identification.verified(token, address_of(self.link.peer))
            self._engine.open.identified(self, self._principal)
            self._engine.intake.check_share(self._principal, 0)
        except HybridError as error:
            detail = error.detail if isinstance(error, LimitError) else ""
            self._engine.counts.refused(error)
            self.end(error.row.name, detail=detail, delay_ms=round((error.retry_after_s or 0) * 1000))
            return
        except Exception:
            _log.exception("a token could not be checked")
            self.end("internal")
            return
        finally:
            self._is_verifying = False
        self._admitted()
        if self._is_ended:
            return
        if has_begun:
            self._schedule()  # to the end of the token's life
        else:
            self._begin()

    async def _recover(self) -> None:
        speaking.set(self)
        assert self._principal is not None
        if self._is_ended:
            return
        positions, self._positions = self._positions or {}, None
        hub = self._engine.hub
        try:
            await self._engine.operations.ask_subscribe(self._principal, self._channels)
            for channel in self._channels:
                self._engine.operations.check_subscribe(self._principal, channel)
            if self.link.is_bidirectional:
                feed = hub.feed(self.link, PLAIN_JSON, self)
            elif len(self._channels) == 1:
                feed = hub.feed(self.link, PLAIN_EVENT, self)
            else:
                feed = hub.bundle_feed(self.link, self._channels, self)
            self._feed = feed
            resets: list[tuple[str, Position]] = []
            for channel in self._channels:
                started = await feed.add(channel, positions.get(channel), self._history)
                if not started.was_recovered:
                    resets.append((channel, started.position))
        except HybridError as error:
            self._engine.counts.refused(error)
            self.end(error.row.name, detail=str(error))
            return
        except Exception:
            _log.exception("a plain stream could not be started")
            self.end("internal")
            return
        if self._is_ended:
            feed.close()
            return
        if not self.link.is_bidirectional and not resets:
            self._write(eventstream.block(id=self._cursor({})))
        for channel, position in resets:
            self.feed_reset(channel, position)
        feed.start(self._channels)

    async def _keep_ticket(self, key: bytes) -> None:
        try:
            await self._engine.tickets.keep(key)
        except HybridError as error:
            _log.warning("a ticket could not be kept: %s", error)

    def _cursor(self, moved: Mapping[str, Position]) -> str:
        assert self._feed is not None
        positions = {name: moved.get(name) or self._feed.position(name) or Position(0) for name in self._channels}
        return format_cursor(positions[self._channels[0]]) if len(positions) == 1 else format_composite(positions)

    def _admitted(self) -> None:
        if self._admission is not None:
            self._admission.leave()
            self._admission = None

    def _write(self, payload: bytes) -> None:
        self.link.write(self.link.framing((payload,)))


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
