"""Finds what serves a request by the table of routes, on the raw path.

Nearly all routes are a whole path, or a path with one name at its end: those are one look into a dictionary. The others
are compared segment by segment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

from hybrid.errors import ProtocolError
from hybrid.protocol.routes.shapes import Route

Handler: TypeAlias = Callable[..., Awaitable[None]]
"""Takes the exchange, and the raw segments that stand for the names of the path's template, in their order."""

_Template: TypeAlias = tuple[bytes | None, ...]


class Routing:
    """See the module's text."""

    def __init__(self, prefix: bytes, routes: Iterable[Route], handlers: Mapping[str, Handler]) -> None:
        """`handlers` by the operations of the routes, whose paths all begin with `prefix`.

        Raises ValueError unless each route has a handler and each handler a route.
        """
        self._prefix_length = len(prefix)
        self._exact: dict[tuple[str, bytes], Handler] = {}
        self._named: dict[tuple[str, bytes], Handler] = {}
        self._deep: dict[bytes, list[tuple[str, _Template, Handler]]] = {}
        self._methods: dict[_Template, list[str]] = {}
        routes = tuple(routes)
        if (names := {route.operation for route in routes}) != handlers.keys() or len(names) != len(routes):
            raise ValueError(f"routes and handlers differ: {sorted(names ^ handlers.keys())}")
        for route in routes:
            template = tuple(None if part.startswith("{") else part.encode() for part in route.segments)
            self._methods.setdefault(template, []).append(route.method)
            for method in (route.method, "HEAD") if route.has_head else (route.method,):
                self._add(method, template, handlers[route.operation])

    def _add(self, method: str, template: _Template, handler: Handler) -> None:
        if None not in template:
            self._exact[method, _joined(template)] = handler
        elif len(template) == 3 and template[2] is None:
            self._named[method, _joined(template[:2])] = handler
        else:
            self._deep.setdefault(_joined(template[:2]), []).append((method, template, handler))

    def find(self, method: str, path: bytes) -> tuple[Handler, tuple[bytes, ...]]:
        """What serves the request, and the raw segments for it. Raises ProtocolError not_found.

        A name at the end of a path is all that is left of it: whether that is one segment is the handler's to judge,
        who can say what is wrong with it.
        """
        handler = self._exact.get((method, path))
        if handler is not None:
            return handler, ()
        cut = path.find(b"/", self._prefix_length)
        if cut > 0:
            handler = self._named.get((method, path[:cut]))
            deep = self._deep.get(path[:cut])
            if deep is not None:
                segments = tuple(path[1:].split(b"/"))
                fitting = [one for one in deep if _fits(one[1], segments)]
                for its_method, template, its_handler in fitting:
                    if its_method == method:
                        named = tuple(given for part, given in zip(template, segments, strict=True) if part is None)
                        return its_handler, named
                if fitting:
                    raise self._not_found(path)
            if handler is not None:
                return handler, (path[cut + 1 :],)
        raise self._not_found(path)

    def _not_found(self, path: bytes) -> ProtocolError:
        segments = tuple(path[1:].split(b"/"))
        longest = [segments]
        if len(segments) > 3:  # a name at the end is all that is left
            longest.append((*segments[:2], b"/".join(segments[2:])))
        for template, methods in sorted(self._methods.items(), key=lambda item: -len(item[0])):
            if any(_fits(template, given) for given in longest):
                return not_found(f"This path answers {' and '.join(methods)} only.")
        return not_found("There is nothing here. The paths, such as /v1/channels/NAME, are listed in /v1/openapi.json.")


def not_found(detail: str = "") -> ProtocolError:
    """There is nothing under a path."""
    return ProtocolError("not_found", detail)


def _joined(template: _Template) -> bytes:
    return b"".join(b"/" + (part or b"") for part in template)


def _fits(template: _Template, segments: tuple[bytes, ...]) -> bool:
    return len(template) == len(segments) and all(
        part is None or part == given for part, given in zip(template, segments, strict=True)
    )
