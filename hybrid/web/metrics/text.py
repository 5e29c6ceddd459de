"""The exposition formats: the only place that knows `prometheus_client`, which is installed with an extra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hybrid.errors import SettingsError
from hybrid.web.metrics.families import Distribution, Family

if TYPE_CHECKING:
    from prometheus_client.core import Metric


def check_installed() -> None:
    """Raises SettingsError where the library is missing."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            detail="metrics = true needs the library prometheus-client: pip install 'hybrid-realtime[metrics]'."
        ) from error


def exposed(families: Sequence[Family], accept: str) -> tuple[bytes, str]:
    """The text, and its media type: OpenMetrics where the reader takes it (`accept`), else Prometheus' own 0.0.4."""
    from prometheus_client.exposition import choose_encoder

    encode, content_type = choose_encoder(accept)
    return encode(_Once(families)), content_type


class _Once:
    """What the library asks for metrics (`prometheus_client.registry.Collector`)."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        for family in self._families:
            name, help, labels = family.name, family.help, family.labels
            if family.kind == "histogram":
                histogram = HistogramMetricFamily(name, help, labels=labels)
                for values, value in family.values:
                    assert isinstance(value, Distribution)
                    histogram.add_metric(values, value.buckets, value.sum)
                yield histogram
            elif family.kind == "info":
                # Its labels are the message, those beside are in front.
                info = InfoMetricFamily(name, help, labels=())
                for values, _ in family.values:
                    info.add_metric((), dict(zip(labels, values, strict=True)))
                yield info
            else:
                kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
                metric = kind(name, help, labels=labels)
                for values, value in family.values:
                    assert not isinstance(value, Distribution)
                    metric.add_metric(values, value)
                yield metric
