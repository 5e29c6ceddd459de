"""What machines ask about this server: is it alive, is it ready, whose tokens does it take (RFC 9728)."""

from __future__ import annotations

from collections.abc import Sequence

from quart import Blueprint, Response, jsonify

from hybrid.auth.details import TYPE as DETAILS_TYPE
from hybrid.auth.dpop import ALGORITHMS as PROOF_ALGORITHMS
from hybrid.auth.grants import MANAGING_SCOPES, REVOKE_SCOPE
from hybrid.broker.base import BrokerHealth
from hybrid.engine.engine import Engine
from hybrid.settings import Settings
from hybrid.web.shared import Shared

RESOURCE_METADATA_PATH = "/.well-known/oauth-protected-resource"


HEALTH_S = 0.5
"""How long an answer of the broker counts: anybody may ask whether we are ready, and must not be able to ask Redis."""


def metadata_blueprint(
    engine: Engine, settings: Settings, issuers: Sequence[str], *, has_health: bool = True
) -> Blueprint:
    """The routes, without those of health where the app has its own. None tells anything about clients or channels."""
    blueprint = Blueprint("hybrid_metadata", __name__)
    checkup = Shared(engine.broker.health, engine.clock, HEALTH_S)

    async def health() -> Response:
        return jsonify({"status": "alive"})

    async def readiness() -> Response:
        health = await checkup()
        if health.is_good and not engine.revocations.is_known:
            health = BrokerHealth(False, "What was revoked is not known yet, so no token is accepted.")
        status = "draining" if engine.leaving.has_begun else "ready" if health.is_good else "waiting for the broker"
        response = jsonify({"status": status, **({"detail": health.detail} if health.detail else {})})
        if status != "ready":
            response.status_code = 503
            response.headers["Retry-After"] = "1"
        return response

    if has_health:
        blueprint.add_url_rule("/healthz", view_func=health)
        blueprint.add_url_rule("/readyz", view_func=readiness)

    @blueprint.get(RESOURCE_METADATA_PATH)
    async def resource() -> Response:
        return jsonify(
            {
                "resource": settings.public_url,
                "authorization_servers": list(issuers),
                "bearer_methods_supported": ["header"],
                "scopes_supported": ["hybrid:subscribe:*", "hybrid:publish:*", REVOKE_SCOPE, *MANAGING_SCOPES],
                "authorization_details_types_supported": [DETAILS_TYPE],
                "dpop_signing_alg_values_supported": list(PROOF_ALGORITHMS),
            }
        )

    return blueprint
