from __future__ import annotations

import pytest
from quart import Quart
from quart.typing import TestClientProtocol as Client

from hybrid.auth.development import DevelopmentIssuer
from hybrid.auth.discovery import find_endpoint
from hybrid.auth.fetch import FetchError
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.keys import KeyStore
from hybrid.limits import Limits
from hybrid.web.issuer import ISSUER_PATH, issuer_blueprint
from tests.support.tokens import AUDIENCE, HandClock

ORIGIN = "http://127.0.0.1:8000"


@pytest.fixture
def issuer() -> DevelopmentIssuer:
    return DevelopmentIssuer(f"{ORIGIN}{ISSUER_PATH}", AUDIENCE, HandClock())


@pytest.fixture
def client(issuer: DevelopmentIssuer) -> Client:
    app = Quart(__name__)
    app.register_blueprint(issuer_blueprint(issuer))
    return app.test_client()


async def test_a_form_is_answered_with_a_token_that_is_not_cached(client: Client, issuer: DevelopmentIssuer) -> None:
    form = {"grant_type": "client_credentials", "client_id": "demo"}
    response = await client.post("/dev-issuer/token", form=form)
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    verifier = JwtVerifier([IssuerConfig(issuer.issuer, keys=issuer.keys)], AUDIENCE, HandClock(), Limits())
    principal = await verifier.verify((await response.get_json())["access_token"])
    assert principal.subject.startswith("guest-")


async def test_the_public_host_does_not_matter(client: Client) -> None:
    """Authlib raises for plain http off loopback, from a constructor, which would be a 500."""
    form = {"grant_type": "client_credentials", "client_id": "demo"}
    response = await client.post("/dev-issuer/token", form=form, headers={"Host": "192.0.2.1:8000"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"data": b"{}", "headers": {"Content-Type": "application/json"}},
        {"json": {"grant_type": "client_credentials", "client_id": "demo"}},
        {"form": {"grant_type": "client_credentials"}},
        {"query_string": {"grant_type": "client_credentials", "client_id": "demo"}},
        {"data": b"\xff=\xff&grant_type=client_credentials&client_id=%00"},
    ],
)
async def test_anything_else_is_an_oauth_error(client: Client, arguments: dict[str, object]) -> None:
    response = await client.post("/dev-issuer/token", **arguments)  # type: ignore[arg-type]
    assert response.status_code in (400, 401)
    assert "error" in await response.get_json()


async def test_a_token_is_posted_for(client: Client) -> None:
    response = await client.get("/dev-issuer/token?grant_type=client_credentials&client_id=demo")
    assert response.status_code == 405


async def test_a_resource_server_finds_the_keys_from_the_issuers_name_alone(
    client: Client, issuer: DevelopmentIssuer
) -> None:
    async def fetch(url: str) -> dict[str, object]:
        assert url.startswith(ORIGIN)
        response = await client.get(url.removeprefix(ORIGIN))
        if response.status_code != 200:
            raise FetchError(url)
        document: dict[str, object] = await response.get_json()
        return document

    assert await find_endpoint(issuer.issuer, "jwks_uri", fetch) == f"{ORIGIN}/dev-issuer/jwks.json"
    verifier = JwtVerifier(
        [IssuerConfig(issuer.issuer, keys=KeyStore(issuer.issuer, fetch, HandClock()))],
        AUDIENCE,
        HandClock(),
        Limits(),
    )
    assert (await verifier.verify(issuer.mint("alice", ""))).subject == "alice"
    await verifier.close()


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-authorization-server/dev-issuer",
        "/dev-issuer/.well-known/oauth-authorization-server",
        "/dev-issuer/.well-known/openid-configuration",
    ],
)
async def test_the_metadata_is_in_each_place(client: Client, path: str) -> None:
    document = await (await client.get(path)).get_json()
    assert document["issuer"] == f"{ORIGIN}/dev-issuer"
    assert document["token_endpoint"] == f"{ORIGIN}/dev-issuer/token"
    assert document["code_challenge_methods_supported"] == ["S256"]
