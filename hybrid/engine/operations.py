"""Publish, history and presence: what needs no session and is answered where it lands, for HTTP and commands alike.

Every operation authorises with the rights of now, bounds its input and raises HybridError; no transport is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from hybrid.auth.policy import Policy
from hybrid.broker.base import Append, Appended, Broker, Page, PresenceStore, Present
from hybrid.clock import Clock
from hybrid.engine.counts import Counts
from hybrid.engine.rates import Rates, who_is
from hybrid.errors import AuthError, BrokerError, ChannelError, HybridError, LimitError, ProtocolError
from hybrid.limits import KEY_MAX_BYTES, Limits
from hybrid.model import Position, PresenceEntry, Principal
from hybrid.protocol.channels import parse_channel, parse_type
from hybrid.protocol.data import bytes_to_json, check_binary_json, check_json, text_to_json

SERVER = Principal(issuer="hybrid", subject="server")
"""The embedding application itself: what it publishes is not authorised, only checked."""
_TOGETHER_MAX = 64
"""Publications of a broadcast that are on their way at once: as many as of a batch."""


class NamespaceOptions(Protocol):
    """What the engine asks of a namespace's settings (`settings.Namespace`)."""

    @property
    def name(self) -> str:
        """What the names of its channels start with."""

    @property
    def subscribe(self) -> str:
        """Who may subscribe: one of `auth.policy.RULES`."""

    @property
    def publish(self) -> str:
        """Who may publish, likewise."""

    @property
    def history_size(self) -> int:
        """Publications kept; 0: none beyond the recent ones in memory."""

    @property
    def history_ttl_s(self) -> float:
        """Age up to which they are kept."""

    @property
    def presence(self) -> bool:
        """Whether it is known who is there."""

    @property
    def join_leave(self) -> bool:
        """Whether coming and going is pushed."""

    @property
    def on_lag(self) -> str:
        """What happens to a client that falls behind the history: "reset" or "close"."""

    @property
    def data_max_bytes(self) -> int | None:
        """Its own bound for `data`, below the general one."""

    @property
    def publishes_per_s(self) -> float | None:
        """Publications of one principal a second, counted for this namespace alone; None: with all others."""

    @property
    def compression(self) -> bool:
        """Whether publications may be compressed on their way to clients."""

    @property
    def durable(self) -> bool:
        """Whether an append waits for a replica."""


class PublishRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One publication asked for. `form` says how `data` is to be read: "json", "text", "bytes", or "binary" (JSON

    of the form `{"base64": "..."}`).
    """

    channel: str
    data: bytes
    form: str = "json"
    type: str | None = None
    key: str | None = None


class Operations:
    """See the module's text. One per process."""

    def __init__(
        self,
        broker: Broker,
        presence: PresenceStore,
        policy: Policy,
        namespace_for: Callable[[str], NamespaceOptions | None],
        limits: Limits,
        clock: Clock,
        rates: Rates,
        counts: Counts | None = None,
    ) -> None:
        self._broker = broker
        self._presence = presence
        self._policy = policy
        self._namespace_for = namespace_for
        self._limits = limits
        self._clock = clock
        self._rates = rates
        self._counts = Counts() if counts is None else counts

    def namespace(self, channel: str) -> NamespaceOptions:
        """The options of a channel. Raises ChannelError forbidden where it has no namespace."""
        namespace = self._namespace_for(channel)
        if namespace is None:
            raise ChannelError("forbidden")
        return namespace

    async def ask_subscribe(self, principal: Principal, channels: Sequence[str]) -> None:
        """Have the backend asked, where it decides who may read, so that `check_subscribe` knows. Cancel-safe."""
        await self._policy.ask(principal, "subscribe", channels)

    @property
    def asks(self) -> bool:
        """Whether a backend is asked about any channel."""
        return self._policy.asks

    async def ask_publish(self, principal: Principal, channels: Sequence[str]) -> None:
        """Have the backend asked, where it decides who may write, so that `check_publish` knows. Cancel-safe."""
        if principal is not SERVER:
            await self._policy.ask(principal, "publish", [name for name in channels if _is_name(name)])

    def may_read_on(self, principal: Principal, channel: str) -> bool:
        """Whether who reads a channel may go on: not denied, as far as is known without asking."""
        return self._policy.is_unanswered(principal, "subscribe", channel) or self.may_subscribe(principal, channel)

    def check_subscribe(self, principal: Principal, channel: str) -> NamespaceOptions:
        """Raises ChannelError or AuthError unless the principal may read the channel now."""
        if principal is not SERVER:
            self._policy.authorise(principal, "subscribe", channel)
        return self.namespace(channel)

    def may_subscribe(self, principal: Principal, channel: str) -> bool:
        """`check_subscribe` as a question."""
        return self._policy.is_authorised(principal, "subscribe", channel)

    def check_publish(self, principal: Principal, channel: str) -> None:
        """Raises AuthError or ChannelError when the principal may not write the channel, a checked name."""
        if principal is SERVER:
            return
        self._policy.authorise(principal, "publish", channel)
        if principal.expires_at_s <= self._clock.wall_s():
            raise AuthError("token_expired")

    async def publish(self, principal: Principal, request: PublishRequest, *, address: str = "") -> Appended:
        """Check and append one publication. Raises HybridError; cancelling leaves the outcome unknown."""
        result = (await self.publish_many(principal, (request,), address=address))[0]
        if isinstance(result, HybridError):
            raise result
        return result

    async def publish_many(
        self, principal: Principal, requests: Sequence[PublishRequest], *, address: str = ""
    ) -> list[Appended | HybridError]:
        """Check and append in order, in one call to the broker; one result for each, errors as values.

        `address` is where somebody anonymous is. Each counts, good or not, except what the server itself publishes.
        """
        return await self._append(principal, requests, address)

    async def _append(
        self, principal: Principal, requests: Sequence[PublishRequest], address: str, data: bytes | None = None
    ) -> list[Appended | HybridError]:
        """`data`: that of all of them, where it was checked already."""
        refusals = self._too_many(principal, requests, address)
        if self.asks:  # about what is not refused already, or questions would have no rate
            asked = [request.channel for place, request in enumerate(requests) if place not in refusals]
            await self.ask_publish(principal, asked)
        results: list[Appended | HybridError] = []
        appends: list[Append] = []
        places: list[int] = []
        allowed: dict[str, NamespaceOptions] = {}  # no time passes in between, so one look at each channel will do
        for place, request in enumerate(requests):
            try:
                if refusals and place in refusals:
                    raise refusals[place]
                appends.append(self._checked(principal, request, allowed, data))
            except HybridError as error:
                results.append(error)
            else:
                places.append(place)
                results.append(_UNANSWERED)
        if appends:
            asked_s = self._clock.monotonic_s()
            try:
                answers: Sequence[Appended | HybridError] = await self._broker.append(appends)
            except BrokerError as error:
                answers = [error] * len(appends)
            for place, answer in zip(places, answers, strict=True):
                results[place] = answer
            self._counts.publish_us.add_s(self._clock.monotonic_s() - asked_s)
        for result in results:
            self._counts.published_one(result)
        return results

    def _too_many(
        self, principal: Principal, requests: Sequence[PublishRequest], address: str
    ) -> dict[int, HybridError]:
        """Count them all, and tell which were one too many, by their places."""
        refusals: dict[int, HybridError] = {}
        if principal is SERVER:
            return refusals
        who, now_s = who_is(principal, address), self._clock.monotonic_s()
        channel: str | None = None  # whose rate is at hand: what comes together is mostly for one
        buckets, limit = self._rates.publishes(None)
        for place, request in enumerate(requests):
            if request.channel != channel:
                channel = request.channel
                buckets, limit = self._rates.publishes(self._namespace_for(channel))
            if wait_s := buckets.take(who, now_s):
                refusals[place] = self._rates.too_many(limit, wait_s)
        return refusals

    async def broadcast(
        self, principal: Principal, channels: Sequence[str], request: PublishRequest, *, address: str = ""
    ) -> list[Appended | HybridError]:
        """Append the same data to many channels, checked once; one result for each, errors as values.

        `request.channel` counts for nothing. A key is one for each channel, as if published there by itself. Raises
        LimitError `too_large`, ProtocolError. Cancelling it leaves the outcome of each unknown.
        """
        limits = self._limits
        if len(channels) > limits.broadcast_channels_max:
            detail = f"A broadcast goes to at most {limits.broadcast_channels_max} channels."
            raise LimitError("broadcast_channels_max", detail, name="too_large")
        if len(set(channels)) != len(channels):
            raise ProtocolError("bad_request", "Each channel may be named once.")
        data = _READERS[request.form](request.data, limits.data_max_bytes)
        if len(data) * len(channels) > limits.broadcast_max_bytes:
            detail = (
                f"The data times the channels are more than {limits.broadcast_max_bytes} bytes (broadcast_max_bytes)."
            )
            raise LimitError("broadcast_max_bytes", detail, name="too_large")
        results: list[Appended | HybridError] = []
        for first in range(0, len(channels), _TOGETHER_MAX):  # or whoever publishes meanwhile would wait for them all
            batch = channels[first : first + _TOGETHER_MAX]
            asked = [msgspec.structs.replace(request, channel=channel) for channel in batch]
            results += await self._append(principal, asked, address, data)
        return results

    async def history(
        self, principal: Principal, channel: str, *, after: Position | None, limit: int, is_reverse: bool
    ) -> Page:
        """A part of the kept log. Raises ChannelError not_offered, UnrecoverablePosition, BrokerError."""
        channel = parse_channel(channel)
        await self.ask_subscribe(principal, (channel,))
        namespace = self.check_subscribe(principal, channel)
        if not namespace.history_size:
            raise ChannelError("not_offered", "This channel keeps no history.")
        limit = min(limit, self._limits.history_page_max)
        if after is not None:
            if is_reverse:
                raise ProtocolError("bad_request", "Give either `after` or `reverse`.")
            return await self._broker.read(channel, after, limit=limit, max_bytes=self._limits.body_max_bytes)
        max_bytes = self._limits.body_max_bytes
        return await self._broker.history(channel, limit=limit, max_bytes=max_bytes, is_reverse=is_reverse)

    async def presence(self, principal: Principal, channel: str) -> list[PresenceEntry]:
        """Who is on a channel now. Raises ChannelError not_offered."""
        channel = parse_channel(channel)
        await self.ask_subscribe(principal, (channel,))
        namespace = self.check_subscribe(principal, channel)
        if not namespace.presence:
            raise ChannelError("not_offered", "This channel does not tell who is there.")
        return await self._presence.entries(channel, self._limits.history_page_max)

    async def count_present(self, channel: str) -> Present:
        """How many are on a channel, a checked name, now. Raises ChannelError not_offered, BrokerError."""
        if not self.namespace(channel).presence:
            raise ChannelError("not_offered", "This channel does not tell who is there.")
        return await self._presence.count(channel)

    def _checked(
        self,
        principal: Principal,
        request: PublishRequest,
        allowed: dict[str, NamespaceOptions],
        data: bytes | None,
    ) -> Append:
        channel, key = request.channel, request.key
        namespace = allowed.get(channel)
        if namespace is None:
            self.check_publish(principal, parse_channel(channel))
            namespace = allowed[channel] = self.namespace(channel)
        if key is not None:
            if not key or _size(key) > KEY_MAX_BYTES:
                raise ProtocolError("bad_request", f"An idempotency key has 1 to {KEY_MAX_BYTES} bytes of UTF-8.")
            # Scoped, so that nobody can occupy or guess another's keys; the separator is in none of the parts.
            key = "\n".join((principal.issuer, principal.subject, principal.client, channel, key))
        bound = self._limits.data_max_bytes
        if namespace.data_max_bytes is not None:
            bound = min(bound, namespace.data_max_bytes)
        if data is None:
            data = _READERS[request.form](request.data, bound)
        elif len(data) > bound:
            raise LimitError("data_max_bytes", f"The data is larger than {bound} bytes.", name="too_large")
        return Append(
            channel=channel,
            data=data,
            type=None if request.type is None else parse_type(request.type),
            is_binary=request.form in ("bytes", "binary"),
            key=key,
            history_size=namespace.history_size,
            history_ttl_s=namespace.history_ttl_s,
            is_durable=namespace.durable,
        )


def _size(key: str) -> int:
    """In bytes of UTF-8; more than any bound where it cannot be written so (lone surrogates)."""
    try:
        return len(key.encode())
    except UnicodeEncodeError:
        return KEY_MAX_BYTES + 1


def _is_name(channel: str) -> bool:
    try:
        parse_channel(channel)
    except HybridError:
        return False
    return True


_READERS: dict[str, Callable[[bytes, int], bytes]] = {
    "json": check_json,
    "text": text_to_json,
    "bytes": bytes_to_json,
    "binary": check_binary_json,
}
_UNANSWERED = LimitError("unanswered", name="internal")
"""Holds the place of a publication until the broker has answered; never leaves `publish_many`."""


def to_json(data: Any) -> bytes:
    """Encode a Python value as the JSON that `publish` takes. Raises ProtocolError bad_request."""
    try:
        return msgspec.json.encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError("bad_request", "This value cannot be written as JSON.") from error
