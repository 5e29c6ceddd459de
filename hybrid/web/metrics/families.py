"""Metrics as plain values: what one worker tells another one, and what becomes text for Prometheus."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, TypeVar

import msgspec

from hybrid.counts import Sizes

_Labels = TypeVar("_Labels", bound=tuple[str, ...])
Kind = Literal["counter", "gauge", "histogram", "info"]


class Distribution(msgspec.Struct, frozen=True):
    """A histogram: cumulative counts by upper bound, the last of which is +Inf; and the sum of all values."""

    buckets: list[tuple[str, int]]
    sum: float


class Family(msgspec.Struct):
    """All samples of one metric: `values` by the values of its labels, in the order of `labels`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    values: list[tuple[tuple[str, ...], float | Distribution]] = []


def gauge(name: str, help: str, value: float) -> Family:
    """A single gauge."""
    return Family(name, "gauge", help, values=[((), value)])


def counter(name: str, help: str, value: float) -> Family:
    """A single counter; its name goes without `_total`."""
    return Family(name, "counter", help, values=[((), value)])


def by_label(
    kind: Literal["counter", "gauge"],
    name: str,
    help: str,
    labels: Sequence[str],
    counts: Mapping[_Labels, float],
    known: Iterable[tuple[str, ...]] = (),
) -> Family:
    """One with labels. `known` are shown as zero before they happen: what is not there yet has no rate."""
    values: dict[tuple[str, ...], float] = dict.fromkeys(known, 0)
    values |= {key: value for key, value in counts.items()}
    return Family(name, kind, help, tuple(labels), [(key, value) for key, value in sorted(values.items())])


def one_label(counts: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    """The same with a tuple for each key, as `by_label` takes it."""
    return {(key,): value for key, value in counts.items()}


def bounded(counts: Counter[str], known: Iterable[str], other: str = "other") -> dict[tuple[str, ...], float]:
    """The same with every word that is not known counted as `other`."""
    words = frozenset(known)
    found: Counter[tuple[str, ...]] = Counter()
    for word, count in counts.items():
        found[(word if word in words else other,)] += count
    return dict(found)


class Scale(msgspec.Struct, frozen=True):
    """Which powers of two become buckets, and what a unit of the counted values is in that of the metric.

    `exponents` are the bounds: 2**n units, or 2**n - 1 where `is_whole`, for values that are whole in themselves.
    """

    exponents: range
    unit: float = 1.0
    is_whole: bool = True


MICROSECONDS: Final = Scale(range(6, 25), 1e-6, is_whole=False)  # 64 us to 16.8 s
NUMBERS: Final = Scale(range(1, 15))  # 1 to 16383


def distribution(sizes: Sizes, scale: Scale) -> Distribution:
    """What was counted, as a histogram."""
    buckets: list[tuple[str, int]] = []
    below, place = 0, 0
    for exponent in scale.exponents:
        below += sum(sizes.counts[place : exponent + 1])
        place = exponent + 1
        bound = (2**exponent - (1 if scale.is_whole else 0)) * scale.unit
        buckets.append((_number(bound), below))
    buckets.append(("+Inf", sum(sizes.counts)))
    return Distribution(buckets, sizes.total * scale.unit)


def merged(workers: Iterable[tuple[str, Sequence[Family]]]) -> list[Family]:
    """The families of several workers as one, each sample with a label `worker` more.

    A family that workers of two versions describe differently is taken as the first one does.
    """
    found: dict[str, Family] = {}
    for worker, families in workers:
        for family in families:
            known = found.get(family.name)
            if known is None:
                known = found[family.name] = Family(
                    family.name, family.kind, family.help, (*family.labels, "worker"), []
                )
            elif known.labels != (*family.labels, "worker") or known.kind != family.kind:
                continue
            known.values += [((*labels, worker), value) for labels, value in family.values]
    return list(found.values())


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else f"{value:.12g}"
