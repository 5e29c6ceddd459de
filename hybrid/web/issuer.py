"""The development issuer's routes. What it grants, and to whom, is decided in `auth/development.py`."""

from __future__ import annotations

from typing import Final

from quart import Blueprint, Response, jsonify, request

from hybrid.auth.development import DevelopmentIssuer

ISSUER_PATH: Final = "/dev-issuer"
"""Below the server's own URL; both together are the issuer's name."""


def issuer_blueprint(issuer: DevelopmentIssuer) -> Blueprint:
    """The token endpoint, the keys and the metadata, the latter where RFC 8414 puts it and where OpenID Connect would.

    The bodies are forms of a few hundred bytes; the app's own bound on bodies holds here too.
    """
    blueprint = Blueprint("dev_issuer", __name__)

    @blueprint.post(f"{ISSUER_PATH}/token")
    async def token() -> Response:
        form = await request.form
        answer = issuer.token_answer(form.items(multi=True), dict(request.headers))
        response = jsonify(answer.body)
        response.status_code = answer.status
        for name, value in answer.headers:
            response.headers[name] = value
        return response

    @blueprint.get(f"{ISSUER_PATH}/jwks.json")
    async def jwks() -> Response:
        return jsonify(issuer.jwks())

    @blueprint.get(f"/.well-known/oauth-authorization-server{ISSUER_PATH}")
    @blueprint.get(f"{ISSUER_PATH}/.well-known/oauth-authorization-server")
    @blueprint.get(f"{ISSUER_PATH}/.well-known/openid-configuration")
    async def metadata() -> Response:
        return jsonify(issuer.metadata())

    return blueprint
