"""One open stream that carries a session: the owner of its link, and the way its commands come in.

The leg reads commands in order and has them carried out, by `leg_commands` and, the session's own, by its runner. It
decides nothing about tokens or histories: it asks the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, cast

from hybrid.auth.door import Admission
from hybrid.auth.revocation import Key
from hybrid.engine import leg_commands
from hybrid.engine.counts import SESSION
from hybrid.engine.feed import Feed
from hybrid.engine.flags import Flag
from hybrid.engine.holders import Match
from hybrid.engine.link import Link, MessageLink, address_of
from hybrid.engine.rates import who_is
from hybrid.engine.wire import Wire
from hybrid.errors import TABLE, HybridError, LimitError, ProtocolError
from hybrid.logs import fields, speaking
from hybrid.model import ANONYMOUS, Position, Principal
from hybrid.protocol.commands import (
    AnyCommand,
    Attach,
    Auth,
    Call,
    Heartbeat,
    History,
    Presence,
    Publish,
    Subscribe,
)
from hybrid.protocol.cursor import to_wire
from hybrid.protocol.pushes import Disconnect, HeartbeatPush, Push, Reply, Reset
from hybrid.protocol.session import SessionLeg

if TYPE_CHECKING:
    from hybrid.engine.engine import Engine
    from hybrid.engine.runner import SessionRunner

_log = logging.getLogger(__name__)
_access = logging.getLogger("hybrid.access")
LARGE_BYTES: Final = 4_096
"""Behind a frame that is longer nothing is read until it is carried out: `inbox_max` such would be 9 MB of a leg."""
_GOODBYE = (1000, 1001)
_COUNTED_LATER = Publish | Subscribe  # where they are carried out: together, and in the order of their numbers
MAY_WAIT = Call | History | Presence
"""Refused when there are too many commands; the others say what a session and its server must agree on."""


class StreamLeg(SessionLeg):
    """A leg over a link. Also the owner of that link (`LinkOwner`) and the listener of its feed (`FeedEvents`)."""

    __slots__ = (
        "_admission",
        "_corked",
        "_echo",
        "_echo_from_s",
        "_engine",
        "_flags",
        "_held",
        "_inbox",
        "_resumed",
        "beat_s",
        "feed",
        "heartbeat_s",
        "link",
        "opened_s",
        "principal",
        "runner",
        "wire",
    )

    link: Link
    _is_working = Flag(1)
    _is_verifying = Flag(2)
    _is_ended = Flag(4)
    _is_full = Flag(8)
    is_listening = Flag(16)
    """While it is not, silence is ours and not the client's."""

    def __init__(self, engine: Engine, wire: Wire, principal: Principal | None, admission: Admission | None) -> None:
        super().__init__()
        self._engine = engine
        self._admission = admission
        self._inbox: list[AnyCommand] | None = None
        self._held: list[bytes] | None = None
        self._flags = 16
        self._resumed: asyncio.Future[None] | None = None
        self._corked: list[bytes] | None = None
        self._echo = 0
        self._echo_from_s = 0.0
        self.wire = wire
        self.principal = principal
        self.runner: SessionRunner | None = None
        self.feed: Feed | None = None
        self.opened_s = 0.0
        self.heartbeat_s = engine.limits.heartbeat_interval_s
        self.beat_s = float("inf")  # when the next one is due, once it is attached

    @property
    def transport(self) -> str:
        """What carries it."""
        return self.wire.name

    def log_fields(self) -> Mapping[str, object]:
        """See `logs.Source`."""
        session = "" if self.runner is None else self.runner.session.id
        link = getattr(self, "link", None)  # not there while it is being opened
        return {
            "remote": "" if link is None else address_of(link.peer),
            "transport": self.wire.name,
            "session": session,
            "principal": self.principal,
        }

    def opened(self, link: Link) -> None:
        """The link is there. From now on the clock runs for its first words."""
        self.link = link
        self._engine.counts.opened[self.wire.name, SESSION] += 1
        self.opened_s = link.last_received_s  # the same object: every float of its own is 24 bytes
        self._engine.open.add(self)
        if self.principal is not None:
            self._engine.open.identified(self, self.principal)
        self._engine.wheel.schedule(self, self._engine.limits.auth_timeout_s)
        self.end_if(self._engine.revocations.match)  # while the link was opened nobody could end it

    # -- writing

    def cork(self) -> None:
        """Gather pushes until `uncork`: the answers to an attach leave in one write."""
        self._corked = []

    def uncork(self) -> None:
        """Write what was gathered. Harmless when nothing is."""
        payloads, self._corked = self._corked, None
        if payloads:
            self.link.write(self.link.framing(payloads))

    def push(self, push: Push) -> None:
        """Write one push."""
        payload = self.wire.encode_push(push)
        if self._corked is not None:
            self._corked.append(payload)
        else:
            self.link.write(self.link.framing((payload,)))

    def reply(self, reply: Reply) -> None:
        """Write one reply."""
        self.push(Push(reply=reply))

    def echo(self, number: int) -> None:
        """Push a heartbeat that was asked for: now, or with all others that are asked for too soon after the last.

        It has the number of the latest.
        """
        if self._is_ended:
            return
        self._echo = number
        limits, now_s = self._engine.limits, self._engine.clock.monotonic_s()
        # Whoever reads nothing is owed one, however often he asks.
        wait_s = limits.echo_interval_s if self._is_full else self._echo_from_s - now_s
        if wait_s > 0:
            self._engine.wheel.schedule(self, wait_s)
            return
        self._echo_from_s = now_s + limits.echo_interval_s
        self.push(Push(heartbeat=HeartbeatPush(int(self._engine.clock.wall_s() * 1000), number)))

    def end(self, error: str, *, detail: str = "", delay_ms: int = 0) -> None:
        """Tell the client why, and close. `error` is a name from the table of errors."""
        if self._is_ended:
            return
        self._is_ended = True
        self._wake()
        if self.feed is not None:
            self.feed.close()
        row = TABLE[error]
        self.uncork()
        self.push(Push(disconnect=Disconnect(row.number, detail or row.name, row.comes_back, delay_ms)))
        self.link.close(row.number, row.name)

    def send_away(self, error: str, *, reason: str, delay_ms: int) -> bool:
        """See `Holder.send_away`: while it is not attached."""
        if self.runner is not None or self._is_ended:
            return False
        self.end(error, detail=reason, delay_ms=delay_ms)
        return True

    # -- its token

    def principals(self) -> Iterable[Principal]:
        """See `Holder.principals`."""
        return () if self.principal is None else (self.principal,)

    def end_if(self, match: Match) -> Key | None:
        """See `Holder.end_if`: while it is not attached. Then its session sees to it."""
        if self.runner is not None or self.principal is None:
            return None
        reason = match(self.principal)
        if reason is not None:
            self.end("forbidden_or_revoked")
        return reason

    def receive_again(self, principal: Principal) -> None:
        """See `Holder.receive_again`."""
        if self.runner is None and self.principal is not None and self.principal.token_hash == principal.token_hash:
            self.principal = principal

    # -- the link's callbacks

    def link_received(self, message: bytes, is_text: bool) -> None:
        """One frame. See `LinkOwner`."""
        if self._is_ended:
            return
        codec = self.wire.codec
        limits = self._engine.limits
        if is_text is codec.is_binary:
            self.end("protocol_error", detail=f"Send {'binary' if codec.is_binary else 'text'} frames here.")
            return
        if self._is_verifying:
            if self._held is None:
                self._held = []
            self._held.append(message)  # bounded: reading is paused, this is the rest of one read from the socket
            return
        bound = limits.command_max_bytes if self.principal is not None else limits.auth_frame_max_bytes
        try:
            raws = codec.split(message, max_bytes=bound, commands_max=limits.commands_per_post_max)
        except ProtocolError as error:
            self.end("frame_too_large", detail=str(error))
            return
        for place, raw in enumerate(raws):
            try:
                command = codec.decode_command(raw, bound)
            except ProtocolError as error:
                leg_commands.refuse(self._engine, self, codec.command_id(raw), error)
                if not self._is_ended:
                    self._over_rate()  # what cannot be read costs as much as what can
                if self._is_ended:
                    return
                continue
            self._take(command)
            if self._is_ended:
                return
            if self._is_verifying and place + 1 < len(raws):
                self._held = [*raws[place + 1 :], *(self._held or ())]
                return
        if len(message) > LARGE_BYTES and self._inbox and self.is_listening:
            self._listen(False)

    def link_paused(self) -> None:
        """See `LinkOwner`. Commands wait as well: their answers would only pile up."""
        self._is_full = True
        self._engine.slow.paused(self.link)
        if self.feed is not None:
            self.feed.link_paused()

    def link_resumed(self) -> None:
        """See `LinkOwner`."""
        self._is_full = False
        self._engine.slow.gone(self.link)
        self._wake()
        if self.feed is not None:
            self.feed.link_resumed()

    def link_closed(self, code: int, reason: str) -> None:
        """See `LinkOwner`."""
        self._is_ended = True
        self._inbox = self._held = None
        self._wake()
        self._engine.open.discard(self)
        self._engine.slow.gone(self.link)
        self._engine.rates.forget(self)
        self._engine.counts.left(self.wire.name, code)
        session = "" if self.runner is None else self.runner.session.id
        lived_s = self._engine.clock.monotonic_s() - self.opened_s
        _access.info(
            "%s %s session=%s code=%d after %.1f s",
            self.link.peer,
            self.wire.name,
            session,
            code,
            lived_s,
            extra=fields(event="closed", code=code, lived_s=round(lived_s, 1), **self.log_fields()),
        )
        self._engine.wheel.cancel(self)
        self._admitted()
        if self.feed is not None:
            self.feed.close()
        if self.runner is not None:
            self.runner.leg_lost(self, is_goodbye=self.link.is_bidirectional and code in _GOODBYE)

    # -- the feed's callbacks

    def feed_reset(self, channel: str, position: Position) -> None:
        """See `FeedEvents`."""
        self.push(Push(reset=Reset(channel, to_wire(position))))

    def feed_fell_behind(self, channel: str) -> bool:
        """See `FeedEvents`."""
        if self._engine.operations.namespace(channel).on_lag == "close":
            self.end("slow_client")
            return False
        return True

    # -- time

    def wheel_fired(self) -> None:
        """The time for the first words is over; or behind them, that of an echo which was asked for too soon."""
        if self.runner is None:
            self.end("auth_timeout" if self.principal is None else "candidate_timeout")
        else:
            self.echo(self._echo)

    # -- commands

    def _take(self, command: AnyCommand) -> None:
        if self.principal is None:
            self._authenticate(command)
            if self.principal is None:
                return
            if isinstance(command, Auth):
                return
        if not isinstance(command, _COUNTED_LATER) and (refusal := self._over_rate()) is not None:
            if self._is_ended:
                return
            if isinstance(command, MAY_WAIT):
                leg_commands.refuse(self._engine, self, command.id, refusal)
                return
        if isinstance(command, Heartbeat):
            if self.runner is not None:
                self.runner.heartbeat(command.last_seq)
                if command.echo:
                    self.echo(command.echo)
            return
        if isinstance(command, Attach) and not self._is_working:
            # The first command of nearly every leg, and it waits for nothing: no task for it.
            leg_commands.attach(self._engine, self, command)
            return
        if self._inbox is None:
            self._inbox = []
        self._inbox.append(command)
        if len(self._inbox) == self._engine.limits.inbox_max:
            self._listen(False)
        if not self._is_working:
            self._is_working = self._engine.tasks.spawn(self._work()) is not None

    def _over_rate(self) -> LimitError | None:
        """Count a command; what to refuse it with when there are too many. Ends the leg when that goes on and on."""
        if self.principal is None:
            return None
        address = address_of(self.link.peer) if self.principal.is_anonymous else ""
        refusal = self._engine.rates.command(who_is(self.principal, address))
        if refusal is not None:
            self.refused_for_rate()
        return refusal

    def refused_for_rate(self) -> None:
        """A command that came on this leg, or is answered on it, is refused for its rate."""
        if self.link.is_bidirectional and self._engine.rates.is_flood(self):
            detail = "Commands went on to come after too many were refused (refusals_per_s)."
            self.end("rate_limited", detail=detail, delay_ms=round(1000 * self._engine.limits.refusals_burst_s))

    def _authenticate(self, command: AnyCommand) -> None:
        if not isinstance(command, Auth):
            if self._engine.allows_anonymous:
                self._authenticated(ANONYMOUS)
            else:
                self.end("unauthorized", detail="Send `auth` with a token first.")
            return
        principal = self._engine.verifier.cached(command.token)
        if principal is not None:
            self._authenticated(principal)
            return
        self._is_verifying = True
        self._listen(False)
        self._engine.tasks.spawn(self._verify(command.token))

    async def _verify(self, token: str) -> None:
        speaking.set(self)
        try:
            principal = await self._engine.identification.verified(token, address_of(self.link.peer))
        except HybridError as error:
            self._engine.counts.refused(error)
            self.end(error.row.name, detail=error.detail, delay_ms=round((error.retry_after_s or 0) * 1000))
            return
        except Exception:
            _log.exception("a token could not be checked")
            self.end("internal")
            return
        finally:
            self._is_verifying = False
        if self._is_ended:
            return
        self._authenticated(principal)
        self._listen(True)
        held, self._held = self._held, None
        for message in held or ():
            self.link_received(message, not self.wire.codec.is_binary)

    def _authenticated(self, principal: Principal) -> None:
        self.principal = principal
        self._engine.open.identified(self, principal)
        cast(MessageLink, self.link).message_max_bytes = self._engine.limits.command_max_bytes
        self._admitted()

    def _admitted(self) -> None:
        if self._admission is not None:
            self._admission.leave()
            self._admission = None

    async def _work(self) -> None:
        """Carry out what is in the inbox, in order; publishes that wait together go to the broker together."""
        speaking.set(self)
        try:
            while self._inbox and not self._is_ended:
                batch, self._inbox = self._inbox, None
                if not self.is_listening:
                    self._listen(True)
                start = 0
                while start < len(batch) and not self._is_ended:
                    await self._room()
                    if self._is_ended:
                        return
                    stop = start + 1
                    if isinstance(batch[start], Publish):
                        while stop < len(batch) and isinstance(batch[stop], Publish):
                            stop += 1
                        await leg_commands.publish(self._engine, self, batch[start:stop])
                    else:
                        await leg_commands.carry_out(self._engine, self, batch[start])
                    start = stop
        except HybridError as error:  # what no command can have caused
            self.end(error.row.name)
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("a command of a client failed")
            self.end("internal")
        finally:
            self._is_working = False

    def _listen(self, is_listening: bool) -> None:
        self.is_listening = is_listening
        if is_listening:
            self.link.resume_reading()
        else:
            self.link.pause_reading()

    async def _room(self) -> None:
        """Wait until the client takes what it was answered, and until what it asked of its session is under way."""
        while self._is_full and not self._is_ended:
            self._resumed = asyncio.get_running_loop().create_future()
            await self._resumed
        if self.runner is not None and not self._is_ended:
            await self.runner.room()

    def _wake(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
        self._resumed = None
