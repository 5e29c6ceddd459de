"""What is to be run: every choice of the command line, checked, and how it is shared among the load's processes."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from hybrid.errors import HybridError, SettingsError
from hybrid.protocol.channels import parse_channel, percent_encode
from hybrid.protocol.cursor import composite_max_bytes

Transport: TypeAlias = Literal["websocket", "sse", "longpoll", "plain-sse"]
TRANSPORTS: Final[tuple[Transport, ...]] = ("websocket", "sse", "longpoll", "plain-sse")
CHANNELS_PER_SESSION_MAX: Final = 256
CHANNELS_PER_PLAIN_STREAM_MAX: Final = 16
PIPELINE_MAX: Final = 64
"""In flight on one connection: a server stops reading for a while at twice as many."""
_CURSOR_BYTES_MAX: Final = 2_048


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Make it with `make`, which checks it."""

    clients: int = 100
    mix: dict[str, int]
    """Clients by transport; together they are `clients`."""
    channels: int = 1
    channels_per_client: int = 1
    prefix: str = "bench:"
    """Channels are named prefix, run, hyphen, number."""
    run: str = ""
    publishers: int = 1
    in_flight: int = 1
    """Of each publisher."""
    publish_over: Literal["http", "websocket"] = "http"
    rate_per_s: float = 0.0
    """Of all publishers together; 0: each follows the answer of the one before."""
    size: int = 128
    duration_s: float = 10.0
    publications: int = 0
    """When so many were sent it is over, whatever `duration_s` says; 0: no such end."""
    is_connect_storm: bool = False
    is_reconnect_storm: bool = False
    connecting_at_once: int = 64
    is_rude: bool = False
    drain_s: float = 15.0
    connect_timeout_s: float = 60.0
    processes: int = 1

    def channel(self, number: int) -> str:
        """The name of a channel."""
        return f"{self.prefix}{self.run}-{number}"

    def channels_of(self, client: int) -> list[int]:
        """The channels of a client: evenly spread, so that each has as many clients as any other, or one more."""
        first = client * self.channels_per_client
        return [(first + place) % self.channels for place in range(self.channels_per_client)]

    @property
    def clients_per_channel(self) -> float:
        """On average."""
        return self.clients * self.channels_per_client / self.channels

    def transports(self) -> list[Transport]:
        """The transport of each client, mixed evenly over their numbers."""
        order: list[Transport] = []
        owed = dict.fromkeys(self.mix, 0.0)
        left = dict(self.mix)
        for _ in range(self.clients):
            for name, count in self.mix.items():
                owed[name] += count / self.clients
            name = max((name for name in left if left[name]), key=lambda name: owed[name])
            owed[name] -= 1
            left[name] -= 1
            order.append(name)  # type: ignore[arg-type]
        return order

    @property
    def publishing_connections(self) -> int:
        """Over HTTP each of those in flight has its own."""
        return self.publishers * (self.in_flight if self.publish_over == "http" else 1)

    @property
    def descriptors(self) -> int:
        """Of the process that has most of them."""
        return math.ceil((self.clients + self.publishing_connections) / self.processes) + 64


def parse_mix(text: str, clients: int) -> dict[str, int]:
    """`websocket=70,sse=20,longpoll=10`, or one name alone, as numbers of clients. Shares need not add up to 100.

    Raises SettingsError.
    """
    shares: dict[str, float] = {}
    for item in text.split(","):
        name, equals, share_text = item.strip().partition("=")
        if name not in TRANSPORTS:
            raise _refusal(f"--mix knows {', '.join(TRANSPORTS)}, and not {name!r}; it reads websocket=70,sse=30.")
        try:
            share = float(share_text) if equals else 1.0
        except ValueError:
            share = -1.0
        if not 0 <= share < math.inf:
            raise _refusal(f"--mix: the share of {name} is a number of at least 0, not {share_text!r}.")
        if name in shares:
            raise _refusal(f"--mix names {name} twice.")
        shares[name] = share
    whole = sum(shares.values())
    if not whole:
        raise _refusal("--mix: at least one share must be above 0.")
    exact = {name: clients * share / whole for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    rest = clients - sum(counts.values())
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[:rest]:
        counts[name] += 1
    return {name: count for name, count in counts.items() if count}


def make(
    *,
    clients: int = 100,
    mix: str | Mapping[str, int] = "websocket",
    channels: int | None = None,
    per_channel: int | None = None,
    in_flight: int | None = None,
    **more: object,
) -> Plan:
    """The plan for these choices. `per_channel` is how many clients a channel has. Raises SettingsError."""
    counts = parse_mix(mix, clients) if isinstance(mix, str) else dict(mix)
    if channels is None:
        channels = 1 if per_channel is None or not clients else math.ceil(clients / per_channel)
    each = 1
    if per_channel is not None and clients:
        if channels * per_channel < clients:
            raise _refusal(
                f"{channels} channels with {per_channel} clients each are not enough for {clients} clients; "
                f"raise --channels to {math.ceil(clients / per_channel)}, or --per-channel."
            )
        each = math.ceil(channels * per_channel / clients)
        if each > channels:
            raise _refusal(f"--per-channel {per_channel} is more than the {clients} clients there are.")
    if in_flight is None:
        in_flight = 32 if more.get("rate_per_s") else 1
    try:
        plan = msgspec.convert(
            {
                "clients": clients,
                "mix": counts,
                "channels": channels,
                "channels_per_client": each,
                "run": secrets.token_hex(3),
                "in_flight": in_flight,
                **more,
            },
            Plan,
        )
    except msgspec.ValidationError as error:
        raise _refusal(f"{error}.") from None
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    if sum(plan.mix.values()) != plan.clients:
        raise _refusal("The clients by transport are not as many as the clients.")
    _check_channels(plan)
    if plan.publish_over == "websocket" and plan.in_flight > PIPELINE_MAX:
        raise _refusal(
            f"--in-flight is at most {PIPELINE_MAX} for each publisher over WebSocket; take more --publishers."
        )
    if not plan.publishers and (plan.rate_per_s or plan.publications):
        raise _refusal("--rate and --publications are for publishers, of which there are none (--publishers 0).")
    if plan.is_reconnect_storm and not plan.clients:
        raise _refusal("--storm reconnect needs clients.")
    if not plan.clients and not plan.publishers:
        raise _refusal("There is nothing to do: neither --clients nor --publishers.")


def _check_channels(plan: Plan) -> None:
    each = plan.channels_per_client
    most = CHANNELS_PER_PLAIN_STREAM_MAX if "plain-sse" in plan.mix else CHANNELS_PER_SESSION_MAX
    if each > most:
        raise _refusal(
            f"Each client would read {each} channels, and can read {most} at most over these transports; "
            f"lower --per-channel or --channels."
        )
    longest = plan.channel(plan.channels - 1)
    try:
        parse_channel(longest)
    except HybridError as error:
        raise _refusal(f"--prefix {plan.prefix!r} makes names that no channel can have: {error}") from None
    if "plain-sse" in plan.mix and each > 1 and composite_max_bytes([longest] * each) > _CURSOR_BYTES_MAX:
        raise _refusal(f"A plain stream cannot name {each} channels of such names; shorten --prefix {plan.prefix!r}.")
    if len(percent_encode(longest)) > 1_024:
        raise _refusal(f"--prefix {plan.prefix!r} is too long for a URL; shorten it.")


def _refusal(detail: str) -> SettingsError:
    return SettingsError(detail=detail)
