"""Requests and handshakes in spans, below what the client's `traceparent` says (W3C Trace Context).

Attributes are those of OpenTelemetry's semantic conventions for HTTP servers. No query is among them: tickets are in
there. A stream's span ends when the stream is open, or with it where its socket could not be taken over.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final

from hybrid.protocol.routes import ROUTES
from hybrid.tracing.spans import Spans, Value, refused
from hybrid.transports.app import Transports
from hybrid.transports.exchange import Exchange

_PATHS: Final = frozenset(route.path for route in ROUTES if "{" not in route.path)
_TEMPLATES: Final = {route.path.partition("{")[0]: route.path for route in ROUTES if "{" in route.path}
"""By what stands before the name."""
_PATH_MAX_BYTES: Final = 512
_SWITCHING: Final = 101
_OK: Final = 200
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE"))


class TracedTransports(Transports):
    """See the module's text."""

    def __init__(self, *parts: Any, spans: Spans, **more: Any) -> None:
        """The other parts are those of `Transports`."""
        super().__init__(*parts, **more)
        self._spans = spans

    async def _handshake(self, exchange: Exchange) -> None:
        with self._span(exchange) as span:
            await super()._handshake(exchange)
            _answered(span, exchange, _SWITCHING)

    async def _request(self, exchange: Exchange) -> None:
        with self._span(exchange) as span:
            await super()._request(exchange)
            _answered(span, exchange, _OK)

    def _span(self, exchange: Exchange) -> AbstractContextManager[Any]:
        method = exchange.method if exchange.method in _METHODS else "_OTHER"
        path = exchange.raw_path[:_PATH_MAX_BYTES].decode("latin-1")
        attributes: dict[str, Value] = {
            "http.request.method": method,
            "url.path": path,
            "url.scheme": exchange.scope.get("scheme", "http"),
            "client.address": exchange.address,
        }
        route = route_of(path)
        if route:
            attributes["http.route"] = route
        return self._spans.span(f"{method} {route}".rstrip(), "server", attributes, exchange.headers)


def _answered(span: Any, exchange: Exchange, opened: int) -> None:
    error = exchange.refusal
    status = error.row.http_status if error is not None else exchange.status or opened
    span.set_attribute("http.response.status_code", status)
    if error is not None:
        refused(span, error)


def route_of(path: str) -> str:
    """A path without the names in it; empty for one that is nothing here."""
    if path in _PATHS:
        return path
    return next((route for before, route in _TEMPLATES.items() if path.startswith(before) and path != before), "")
