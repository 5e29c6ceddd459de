"""Host and Origin for the pages and the issuer's routes too: a rebound name must not reach a server on this machine."""

from __future__ import annotations

from collections.abc import Collection

from quart import Quart, Response, request

from hybrid.auth.origin import DoorPolicy
from hybrid.errors import AuthError
from hybrid.protocol.codec import problem

_PROBES = ("/healthz", "/readyz", "/metrics")
"""Asked by load balancers and Prometheus under whatever address they know. The first two tell nothing about anybody,
the last one looks for itself who asks."""


def guard(app: Quart, door_policy: DoorPolicy, blueprints: Collection[str] | None = None) -> None:
    """Refuse requests to any of the app's routes that the policy does not let in (403, 4504).

    With `blueprints` only theirs: the rest of an app that embeds us is its own affair.
    """

    @app.before_request
    async def check() -> Response | None:
        if request.path in _PROBES or (blueprints is not None and request.blueprint not in blueprints):
            return None
        try:
            door_policy.check(request.scope["headers"], scheme=request.scheme)
        except AuthError as error:
            return Response(problem(error), status=error.row.http_status, content_type="application/problem+json")
        return None
