"""How often one principal, or one address, may do something: who is it, which bucket, and what it is told.

A principal is (issuer, subject), whichever client it uses; somebody anonymous is its address. All counts are of this
process. Nothing here is asked for a delivery; a command costs one look into a table.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from typing import Final, Protocol, TypeAlias

from hybrid.auth.door import address_group
from hybrid.clock import Clock
from hybrid.engine.buckets import Buckets
from hybrid.errors import LimitError
from hybrid.limits import Limits
from hybrid.model import Principal

Who: TypeAlias = tuple[str, str] | str

RATES: Final = ("connects_per_s", "failed_auths_per_s", "commands_per_s", "publishes_per_s", "refusals_per_s")
"""The limits that are rates: what `Rates` counts, and the only ones whose refusals make a flood."""


class PublishRate(Protocol):
    """What is asked of a namespace's settings."""

    @property
    def name(self) -> str:
        """Of the namespace."""

    @property
    def publishes_per_s(self) -> float | None:
        """Its own rate of publishes; None for the general one."""


def who_is(principal: Principal, address: str) -> Who:
    """What counts as one. `address` is textual, and looked at for somebody anonymous only."""
    return (principal.issuer, principal.subject) if principal.subject else address_group(address)


class Rates:
    """See the module's text. One per process.

    `refused` counts refusals by the limit that was hit, since the start: for operators.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits: Final = limits
        self._clock: Final = clock
        self._connects = self._buckets(limits.connects_per_s, limits.connects_burst_s)
        self._failures = self._buckets(limits.failed_auths_per_s, limits.failed_auths_burst_s)
        self._commands = self._buckets(limits.commands_per_s, limits.rates_burst_s)
        self._publishes = self._buckets(limits.publishes_per_s, limits.rates_burst_s)
        self._namespaces: dict[str, tuple[Buckets, str]] = {}  # those with a rate of their own, and its name
        self._refusals = self._buckets(limits.refusals_per_s, limits.refusals_burst_s)
        self.refused: Counter[str] = Counter()

    def connect(self, who: Who) -> None:
        """A stream is being opened. Raises LimitError `connects_per_s` (429)."""
        wait_s = self._connects.take(who, self._clock.monotonic_s())
        if wait_s:
            raise self._refusal("connects_per_s", wait_s, "Too many connections were opened", name="rate_limited")

    def check_failures(self, sender: Hashable) -> None:
        """Before a token or a proof is checked that is not known yet. Raises LimitError `failed_auths_per_s` (429)."""
        wait_s = self._failures.wait_s(sender, self._clock.monotonic_s())
        if wait_s:
            detail = "Too many tokens or proofs from this address were refused"
            raise self._refusal("failed_auths_per_s", wait_s, detail, name="rate_limited")

    def failed(self, sender: Hashable) -> None:
        """A token, or a proof of possession, of this sender was bad."""
        self._failures.take(sender, self._clock.monotonic_s())

    def command(self, who: Who) -> LimitError | None:
        """Count a command; what to refuse it with (`commands_per_s`) where there are too many."""
        wait_s = self._commands.take(who, self._clock.monotonic_s())
        return self._refusal("commands_per_s", wait_s, "Too many commands") if wait_s else None

    def check_command(self, principal: Principal, address: str) -> None:
        """Count a command. Raises LimitError `commands_per_s`."""
        if (error := self.command(who_is(principal, address))) is not None:
            raise error

    def publishes(self, namespace: PublishRate | None) -> tuple[Buckets, str]:
        """The buckets from which publications of a namespace are taken, and the name of their limit.

        For who takes many at one moment; `too_many` is for when there was none.
        """
        if namespace is None or namespace.publishes_per_s is None:
            return self._publishes, "publishes_per_s"
        found = self._namespaces.get(namespace.name)
        if found is None:
            buckets = self._buckets(namespace.publishes_per_s, self._limits.rates_burst_s)
            found = self._namespaces[namespace.name] = (buckets, f"namespaces.{namespace.name}.publishes_per_s")
        return found

    def too_many(self, limit: str, wait_s: float) -> LimitError:
        """The refusal of a publication."""
        return self._refusal(limit, wait_s, "Too many publications")

    def check_flood(self, sender: Hashable) -> None:
        """Raises LimitError `refusals_per_s` (429) for a sender that floods."""
        wait_s = self._refusals.wait_s(sender, self._clock.monotonic_s())
        if wait_s:
            detail = "Commands went on to come after too many were refused"
            raise self._refusal("refusals_per_s", wait_s, detail, name="rate_limited")

    def is_flood(self, sender: Hashable) -> bool:
        """A command of this sender was refused for its rate: whether that has gone on for too long."""
        if not self._refusals.take(sender, self._clock.monotonic_s()):
            return False
        self.refused["refusals_per_s"] += 1
        return True

    def forget(self, sender: Hashable) -> None:
        """A sender is gone."""
        self._refusals.forget(sender)

    def _buckets(self, per_s: float, burst_s: float) -> Buckets:
        return Buckets(per_s, burst_s, self._limits.rate_keys_max)

    def _refusal(self, limit: str, wait_s: float, detail: str, *, name: str | None = None) -> LimitError:
        self.refused[limit] += 1
        detail = f"{detail} ({limit}); come back after the delay given."
        return LimitError(limit, detail, name=name, retry_after_s=math.ceil(wait_s * 1000) / 1000)


def is_rate(limit: str) -> bool:
    """Whether a limit, by its name, is one that `Rates` counts: also that of a namespace."""
    return limit.rpartition(".")[2] in RATES


def is_over_rate(error: BaseException) -> bool:
    """Whether a command was refused for its rate, and nothing else."""
    return isinstance(error, LimitError) and is_rate(error.limit)
