"""Who is taken in by this process, and who is told to come later: its room, its lag, the shares of each client.

Nothing here waits. Whoever is refused is told a delay of its own, so that those of one moment do not come back in one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from hybrid.auth.door import address_group
from hybrid.auth.revocation import Revocations
from hybrid.clock import Clock
from hybrid.engine.arrivals import Arrivals
from hybrid.engine.census import Census
from hybrid.engine.counts import REFUSED, UNKNOWN, Counts
from hybrid.engine.lag import Lag
from hybrid.engine.leaving import Leaving
from hybrid.engine.rates import Rates, who_is
from hybrid.engine.registry import RETRY_MAX_S, RETRY_MIN_S, Registry
from hybrid.errors import AuthError, BrokerError, HybridError, LimitError, ProtocolError
from hybrid.limits import Limits
from hybrid.model import Principal
from hybrid.protocol.commands import Attach, AttachSubscription

BROKER_RETRY_MIN_S: Final = 1.0
BROKER_RETRY_MAX_S: Final = 5.0
_NAMED_BYTES: Final = 120  # what an attach says of a channel beside its name: the longest position and its punctuation
_ENVELOPE_BYTES: Final = 512


class Intake:
    """See the module's text. `draw` gives a number between two others: when whoever is refused is to come back."""

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        *,
        census: Census,
        lag: Lag,
        rates: Rates,
        registry: Registry,
        counts: Counts,
        revocations: Revocations,
        leaving: Leaving,
        draw: Callable[[float, float], float],
    ) -> None:
        self.arrivals = Arrivals(limits, clock)
        self._limits = limits
        self._clock = clock
        self._census = census
        self._lag = lag
        self._rates = rates
        self._registry = registry
        self._counts = counts
        self._revocations = revocations
        self._leaving = leaving
        self._draw = draw

    # -- the process

    @property
    def has_room(self) -> bool:
        """Whether a new stream can be taken by this process at all."""
        return not self._leaving.has_begun and len(self._census) < self._limits.links_max

    @property
    def is_full(self) -> bool:
        """Whether another process is the better one to come back to."""
        return not self.has_room or self._lag.is_lagging

    def check_room(self) -> None:
        """Raises LimitError or ProtocolError when no new stream can be taken now."""
        if self._leaving.has_begun:
            raise ProtocolError("draining", retry_after_s=random.randint(0, self._limits.reconnect_delay_max_ms) / 1000)
        if not self.has_room:
            raise self._full("links_max", "This server is full", name="draining")

    def check_lag(self) -> None:
        """Raises LimitError when the event loop is too late to serve one more; not for what goes on."""
        if self._lag.is_lagging:
            raise self._full("lag_max_s", "This server is overloaded", name="draining")

    # -- who asks

    def arrive(self, address: str) -> None:
        """A stream is asked for, by whomever. Raises LimitError when this address has too many, or comes too often."""
        self._check_address(address)
        self._rates.connect(address_group(address))

    def check_links(self, principal: Principal, address: str) -> None:
        """Before a request that may wait. Raises LimitError when its address, or its principal, has too many open."""
        self._check_address(address)
        self.check_share(principal)

    def check_share(self, principal: Principal, more: int = 1) -> None:
        """Raises LimitError when a principal would have too many streams and waiting polls, with so many `more`."""
        if self._census.is_full_of_principal(principal, self._limits.links_per_principal_max + 1 - more):
            raise self._full("links_per_principal_max", "Too many streams of this principal are open")

    def check_lasting(self, principal: Principal) -> None:
        """Raises AuthError for one whose session would end at once: expired, or revoked since its token was shown.

        The check of tokens allows for clocks that differ, by more than the grace after the end.
        """
        if principal.expires_at_s + self._limits.expiry_grace_s <= self._clock.wall_s():
            raise AuthError("token_expired")
        self._revocations.check(principal)

    # -- an attach

    def admit(self, principal: Principal, attach: Attach, address: str) -> None:
        """Let a client attach, or tell it when to come. Once for each attach, behind whatever else can refuse it.

        Raises LimitError, ProtocolError or AuthError.
        """
        try:
            self.check_room()
            self.check_subscriptions(attach.subscriptions)
            self.check_lasting(principal)
            if not attach.session or self._registry.find(attach.session, principal) is None:
                self.check_lag()
            if not principal.is_anonymous:  # its address was counted when it came
                self._rates.connect(who_is(principal, address))
            self.arrivals.admit(principal, attach.session, address)
        except HybridError:
            self._counts.attaches[UNKNOWN, REFUSED] += 1
            raise

    def check_subscriptions(self, subscriptions: Sequence[AttachSubscription]) -> None:
        """Raises LimitError or ProtocolError for too many channels, or one twice."""
        most = self._limits.channels_per_session_max
        if len(subscriptions) > most:
            raise LimitError("channels_per_session_max", f"A session has at most {most} channels.")
        if len({wanted.channel for wanted in subscriptions}) != len(subscriptions):
            raise ProtocolError("bad_request", "Each channel may be named once.")

    def check_attachable(self, channels: Sequence[str]) -> None:
        """Raises LimitError when an attach that names these channels would be larger than is taken."""
        if sum(map(len, map(msgspec.json.encode, channels))) + len(channels) * _NAMED_BYTES > (
            self._limits.attach_max_bytes - _ENVELOPE_BYTES
        ):
            raise LimitError("attach_max_bytes", "The names of these channels are too long for one attach.")

    @contextmanager
    def told_apart(self) -> Iterator[None]:
        """Whoever is kept from an attach by a broker that is away, inside, is told a moment of its own to come back."""
        try:
            yield
        except BrokerError as error:  # it may be the same one for many
            retry_after_s = round(self._draw(BROKER_RETRY_MIN_S, BROKER_RETRY_MAX_S), 3)
            raise BrokerError(error.row.name, error.detail, retry_after_s=retry_after_s) from error

    def _check_address(self, address: str) -> None:
        if self._census.is_full_of_address(address, self._limits.links_per_address_max):
            raise self._full("links_per_address_max", "Too many streams are open from this address")

    def _full(self, limit: str, detail: str, *, name: str = "rate_limited") -> LimitError:
        """Whoever is told so comes at that very moment, so each is told one of its own."""
        self._rates.refused[limit] += 1
        retry_after_s = round(self._draw(RETRY_MIN_S, RETRY_MAX_S), 3)
        detail = f"{detail} ({limit}); come back after the delay given."
        return LimitError(limit, detail, name=name, retry_after_s=retry_after_s)
