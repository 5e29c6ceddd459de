"""The only place that knows OpenTelemetry, and of it the API alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from hybrid import __version__
from hybrid.errors import HybridError, SettingsError
from hybrid.transports.exchange import Headers

try:
    from opentelemetry import propagate, trace
    from opentelemetry.propagators.textmap import Getter
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError as error:
    raise SettingsError(
        detail="tracing = true needs the library opentelemetry-api: pip install 'hybrid-realtime[otel]'."
    ) from error

if TYPE_CHECKING:
    from opentelemetry.context import Context

Kind = Literal["server", "producer", "client", "internal"]
Value = str | int | bool
_KINDS: Final = {
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}
_FAULT_STATUS: Final = 500
_HEADER_MAX_BYTES: Final = 8_192
"""Of what a client says its trace is: `tracestate` has 512, `baggage` 8192 (W3C)."""


class _Headers(Getter[Headers]):
    """Reads ASGI's headers, as `propagate.extract` wants it."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1")
        found = [value.decode("latin-1") for name, value in carrier if name == wanted]
        return found if found and sum(map(len, found)) <= _HEADER_MAX_BYTES else None

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


_HEADERS: Final = _Headers()


class Spans:
    """Makes them. With no SDK in the process they go nowhere, at the price of making them."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("hybrid", __version__)

    @contextmanager
    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], headers: Headers | None = None
    ) -> Iterator[Span]:
        """One around what is inside, below the present one, or below that of the headers' `traceparent`.

        An error that leaves it is noted by its name, and is a fault (status ERROR) if it is ours: what a client did
        wrong is not.
        """
        parent: Context | None = None if headers is None else propagate.extract(headers, getter=_HEADERS)
        with self._tracer.start_as_current_span(
            name,
            context=parent,
            kind=_KINDS[kind],
            attributes=dict(attributes),
            record_exception=False,  # the log has it, without what may stand in its text
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except HybridError as error:
                refused(span, error)
                raise
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(Status(StatusCode.ERROR))
                raise


def refused(span: Span, error: HybridError) -> None:
    """Note an error by its name."""
    span.set_attribute("error.type", error.row.name)
    if error.row.http_status >= _FAULT_STATUS:
        span.set_status(Status(StatusCode.ERROR, error.row.name))


def all_refused(span: Span, results: Iterable[object]) -> None:
    """Note how many of several failed, and the first one's name."""
    errors = [result for result in results if isinstance(result, HybridError)]
    if errors:
        refused(span, errors[0])
        span.set_attribute("hybrid.failed", len(errors))
