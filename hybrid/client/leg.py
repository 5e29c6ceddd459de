"""What all legs have in common: one open transport of the session, with the commands that wait to be sent on it.

A leg turns bytes into pushes and commands into bytes. It decides nothing: what a push means, whether to come back and
what to send again is the session's. `carry` runs from the first byte to the last and says how it ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import ClassVar, Final, Protocol

import msgspec

from hybrid.client.credentials import Credentials
from hybrid.client.ending import Ending, network, of_number
from hybrid.client.endpoint import Endpoint
from hybrid.protocol.commands import AnyCommand, Attach, AttachSubscription, Call, Heartbeat, PolledPosition, Publish
from hybrid.protocol.data import to_msgpack
from hybrid.protocol.pushes import Attached, Push

STREAM_PATH: Final = "/v1/stream"
COMMAND_PATH: Final = "/v1/command"
SILENT_INTERVALS: Final = 2.5
"""A leg on which nothing was heard for this many heartbeat intervals is dropped."""
_QUIET_S: Final = 5.0
"""Where nothing has come for so long, an answer that does not come would be missed by the next heartbeat only."""


class LegHost(Protocol):
    """What a leg needs from its session."""

    endpoint: Endpoint
    credentials: Credentials
    encoding: str
    last_seq: int
    sealed: str
    poll_wait_s: float

    def leg_pushed(self, leg: Leg, push: Push) -> None:
        """A push came in. Must not raise."""

    def subscriptions_for(self, leg: Leg) -> list[AttachSubscription]:
        """The channels for the attach of this leg and where each goes on; asked for when the pipe is open."""

    def positions(self) -> list[PolledPosition]:
        """What has been received of each channel, for the next poll."""


class Leg:
    """One open transport. Made for one attach, used once."""

    transport: ClassVar[str]
    is_polled: ClassVar[bool] = False
    sends_token: ClassVar[bool] = False
    """Whether a refresh carries its token in the command rather than in a header."""
    asks_after_s: ClassVar[float] = 0.0
    """How long a leg has carried the session when it is asked for its first sign of life."""

    def __init__(self, host: LegHost, attach: Attach) -> None:
        self.host = host
        self.attach = attach
        self.attached: Attached | None = None
        self.opened: asyncio.Future[Attached | Ending] = asyncio.get_running_loop().create_future()
        self.subscribed = asyncio.Event()
        self.is_aborted = False
        self.task: asyncio.Task[None] | None = None
        self.disconnected: Ending | None = None
        self.started_s = self.heard_s = asyncio.get_running_loop().time()
        self.latency_s = 0.0  # from its start to the nonce
        self.ready_s: float | None = None  # since when it carries the session
        self.fault = ""  # how it went deaf: "mute" or "held"
        self.is_woken = False  # what is asked after sleep needs no explanation where it is not answered
        self.echoed = 0
        self.has_echoed = asyncio.Event()
        self.is_doubted = asyncio.Event()
        self.asked = 0
        self._verdict: Ending | None = None
        self._outbox: deque[AnyCommand] = deque()
        self._has_commands = asyncio.Event()

    @property
    def attempt(self) -> int:
        """The client's own number of this leg."""
        return self.attach.attempt

    @property
    def session(self) -> str:
        """The session that this leg belongs to, as the server named it; "" before it did."""
        return self.attached.session if self.attached is not None else ""

    @property
    def silence_max_s(self) -> float | None:
        """How long nothing may be heard before the leg counts as dead; None before the interval is known."""
        return self.attached.heartbeat_interval_s * SILENT_INTERVALS if self.attached is not None else None

    async def carry(self) -> Ending:
        """Open, attach, and pass on every push until the end. Raises nothing but cancellation."""
        raise NotImplementedError

    def encoded_attach(self, encoding: str) -> bytes:
        """The attach, naming what is wanted by now: opening takes a while, and others subscribe meanwhile."""
        self.attach = msgspec.structs.replace(self.attach, subscriptions=self.host.subscriptions_for(self))
        return encode_command(self.attach, encoding)

    def confirm(self, subscriptions: list[AttachSubscription]) -> None:
        """Make this leg the current one."""
        raise NotImplementedError

    def send(self, command: AnyCommand) -> None:
        """Send it as soon as possible, in order. Bounded by the session's number of calls in flight."""
        self._outbox.append(command)
        self._has_commands.set()
        if self.idle_s >= _QUIET_S:
            self.is_doubted.set()

    @property
    def idle_s(self) -> float:
        """For how long nothing has been heard."""
        return asyncio.get_running_loop().time() - self.heard_s

    def ask(self) -> int:
        """Ask for a heartbeat, now; the number that it will bring."""
        self.asked += 1
        self.send_ahead(Heartbeat(last_seq=self.host.last_seq, echo=self.asked))
        return self.asked

    def send_ahead(self, command: Heartbeat) -> None:
        """Send what must not wait behind commands that are not answered yet."""
        self._outbox.appendleft(command)
        self._has_commands.set()

    def poll_anew(self) -> None:
        """What polls are made of has changed; does nothing on a stream."""

    async def goodbye(self) -> None:
        """Tell the server that the client will not come back, where the transport can say so."""

    def abort(self, verdict: Ending | None = None, fault: str = "") -> None:
        """End at once, as a cut cable would. `verdict` says why; `fault` how its transport failed, where that is so."""
        if not self.is_aborted:
            self._verdict, self.fault = verdict, fault
        self.is_aborted = True
        if self.task is not None:
            self.task.cancel()

    @property
    def verdict(self) -> Ending:
        """How it ended where it was aborted."""
        return self._verdict or network("it was cut")

    def take_push(self, push: Push) -> None:
        """Look at what concerns the leg itself, then hand it to the session."""
        self.heard_s = asyncio.get_running_loop().time()
        if push.heartbeat is not None:
            if push.heartbeat.echo:
                self.echoed = push.heartbeat.echo
                self.has_echoed.set()
            return
        if push.attached is not None:
            if self.attached is None:
                self.latency_s = self.heard_s - self.started_s
            self.attached = push.attached
            self._has_commands.set()  # whoever sends heartbeats learns their interval
        if push.disconnect is not None:
            told = push.disconnect
            delay_s = told.delay_ms / 1000 if told.delay_ms else None
            self.disconnected = of_number(told.code, told.reason, delay_s, told.reconnect)
        self.host.leg_pushed(self, push)

    def waiting(self, count_max: int) -> Iterator[AnyCommand]:
        """Take up to `count_max` commands out of the outbox."""
        while self._outbox and count_max > 0:
            count_max -= 1
            yield self._outbox.popleft()
        if not self._outbox:
            self._has_commands.clear()

    async def wait_for_commands(self) -> None:
        """Return when there is a command to send. Cancel-safe."""
        await self._has_commands.wait()


_encode_json: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode


def encode_command(command: AnyCommand, encoding: str) -> bytes:
    """A command as one frame. The data of a publish or a call is JSON and becomes MessagePack where the frame is."""
    if encoding == "json":
        return _encode_json(command)
    if isinstance(command, Publish):
        data = to_msgpack(bytes(command.data), command.binary)
        command = msgspec.structs.replace(command, data=msgspec.Raw(data))
    elif isinstance(command, Call) and bytes(command.data):
        command = msgspec.structs.replace(command, data=msgspec.Raw(to_msgpack(bytes(command.data), False)))
    return _encode_msgpack(command)
