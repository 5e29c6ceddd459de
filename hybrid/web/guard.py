"""Host and Origin for the pages and the issuer's routes too: a rebound name must not reach a server on this machine."""

from __future__ import annotations

from quart import Quart, Response, request

from hybrid.auth.origin import DoorPolicy
from hybrid.errors import AuthError
from hybrid.protocol.codec import problem

_PROBES = ("/healthz", "/readyz", "/metrics")
"""Asked by load balancers and Prometheus under whatever address they know. The first two tell nothing about anybody,
the last one looks for itself who asks."""


def guard(app: Quart, door_policy: DoorPolicy) -> None:
    """Refuse requests to any of the app's own routes that the policy does not let in (403, 4504)."""

    @app.before_request
    async def check() -> Response | None:
        if request.path in _PROBES:
            return None
        try:
            door_policy.check(request.scope["headers"], scheme=request.scheme)
        except AuthError as error:
            return Response(problem(error), status=error.row.http_status, content_type="application/problem+json")
        return None
