"""The endpoints that programs ask: tokens, devices, revocation, introspection, keys and metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from quart import Blueprint, Response, jsonify, request

from hybrid.auth.development import DevelopmentIssuer, TokenAnswer
from hybrid.web.issuer.pages import add_pages

ISSUER_PATH: Final = "/dev-issuer"
"""Below the server's own URL; both together are the issuer's name."""

_Answer: TypeAlias = Callable[[Iterable[tuple[str, str]], Mapping[str, str]], TokenAnswer]


def page_addresses(public_url: str, hosts: Sequence[str]) -> tuple[str, ...]:
    """The demo page's own addresses, to which a sign-in may return: the root of the server under each exact host.

    `public_url` may have a path, which the page does not; `hosts` are values of the Host header, and those for any port
    (`localhost:*`) are left out, since an address is compared character by character.
    """
    parts = urlsplit(public_url)
    named = [parts.netloc, *(host for host in hosts if not host.endswith(":*"))]
    return tuple(dict.fromkeys(f"{parts.scheme}://{host}/" for host in named))


def issuer_blueprint(issuer: DevelopmentIssuer) -> Blueprint:
    """All routes. The metadata is where RFC 8414 puts it and where OpenID Connect would.

    The bodies are forms of a few hundred bytes; the app's own bound on bodies holds here too.
    """
    blueprint = Blueprint("dev_issuer", __name__, template_folder="templates")

    def add_endpoint(name: str, answer: _Answer) -> None:
        async def endpoint() -> Response:
            form = await request.form
            return _response(answer(form.items(multi=True), dict(request.headers)))

        blueprint.add_url_rule(f"{ISSUER_PATH}/{name}", name, endpoint, methods=["POST"])

    add_endpoint("token", issuer.token_answer)
    add_endpoint("device_authorization", issuer.device_answer)
    add_endpoint("revoke", issuer.revocation_answer)
    add_endpoint("introspect", issuer.introspection_answer)
    add_pages(blueprint, issuer, ISSUER_PATH)

    @blueprint.get(f"{ISSUER_PATH}/jwks.json")
    async def jwks() -> Response:
        return jsonify(issuer.jwks())

    @blueprint.get(f"/.well-known/oauth-authorization-server{ISSUER_PATH}")
    @blueprint.get(f"{ISSUER_PATH}/.well-known/oauth-authorization-server")
    @blueprint.get(f"{ISSUER_PATH}/.well-known/openid-configuration")
    async def metadata() -> Response:
        return jsonify(issuer.metadata())

    return blueprint


def _response(answer: TokenAnswer) -> Response:
    response = jsonify(answer.body)
    response.status_code = answer.status
    for name, value in answer.headers:
        response.headers[name] = value
    return response
