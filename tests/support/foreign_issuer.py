"""An authorization server that was not written here (npm's oidc-provider), run in Node, and a client of it by hand.

What it is and gives is written down in `tests/foreign/issuer/provider.mjs`. `make issuer` installs it.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import httpx2
import pytest
from joserfc.jwk import ECKey

from hybrid.settings import IssuerSettings
from tests.support.processes import Process, free_port, program
from tests.support.server import AUDIENCE
from tests.support.tokens import decoded, dpop_proof

FOLDER: Final = Path(__file__).parent.parent / "foreign" / "issuer"
OPAQUE: Final = f"{AUDIENCE}/opaque"
"""The resource whose tokens are opaque; they are for the same audience."""
REDIRECT_URI: Final = "https://spa.example/callback"
SCOPE: Final = "hybrid:subscribe:* hybrid:publish:*"
SECRET: Final = "a secret of a client that exists for tests only"
RESOURCE_SERVER: Final = "hybrid"
"""The client that may introspect, and nothing else."""

Tokens = dict[str, Any]


class ForeignIssuer:
    """One authorization server on a port of its own. Killed and started again, it has new keys and knows no token."""

    def __init__(self, folder: Path) -> None:
        if not (FOLDER / "node_modules" / "oidc-provider").is_dir():
            pytest.skip("needs oidc-provider, which was not found: `make issuer` installs it with npm")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        script = FOLDER / "provider.mjs"
        arguments = [program("node", package="nodejs"), str(script), str(self.port), AUDIENCE]
        self.process = Process("oidc-provider", arguments, folder)

    async def start(self) -> None:
        self.process.launch()
        await self.process.until(self._answers)

    async def _answers(self) -> bool:
        try:
            await self._control("counts")
        except httpx2.TransportError:
            return False
        return True

    def settings(self, **options: Any) -> IssuerSettings:
        """What a server is told of it."""
        return IssuerSettings(url=self.url, **options)

    # -- what a test does to it

    async def asked(self) -> dict[str, int]:
        """How often each of its paths was asked for."""
        return dict((await self._control("counts"))["asked"])

    async def rotate(self, *, keep: bool) -> list[str]:
        """Sign with new keys from now on; the former ones are still published, or no more. Returns all key ids."""
        return list((await self._control("rotate?keep" if keep else "rotate"))["kids"])

    @asynccontextmanager
    async def lifetime(self, seconds: int) -> AsyncIterator[None]:
        """Access tokens that are given within the block live so long."""
        await self._control(f"lifetime?s={seconds}")
        yield
        await self._control("lifetime?s=600")

    async def _control(self, what: str) -> dict[str, Any]:
        async with _browser() as browser:
            return dict((await browser.post(f"{self.url}/control/{what}")).json())

    # -- what its clients do

    async def sign_in(
        self,
        subject: str = "alice",
        *,
        scope: str = SCOPE,
        resource: str = AUDIENCE,
        client: str = "spa",
        key: ECKey | None = None,
    ) -> Tokens:
        """The authorization code flow with PKCE (RFC 7636), as a browser and a page in it go through it.

        With a `key` the tokens are bound to it (RFC 9449).
        """
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": client,
            "redirect_uri": REDIRECT_URI,
            "scope": f"openid {scope}",
            "resource": resource,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "login_hint": subject,
        }
        async with _browser() as browser:
            answer = await browser.get(f"{self.url}/auth", params=query)
            for _ in range(8):
                assert answer.status_code in (302, 303), answer.text
                location = urljoin(f"{self.url}/", answer.headers["location"])
                if location.startswith(REDIRECT_URI):
                    break
                answer = await browser.get(location)
            else:
                raise AssertionError("it redirects for ever")
        given = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert given.keys() == {"code", "state", "iss"}, given
        assert (given["state"], given["iss"]) == (state, self.url)  # RFC 9207
        return await self.token(
            client,
            key=key,
            grant_type="authorization_code",
            code=given["code"],
            redirect_uri=REDIRECT_URI,
            code_verifier=verifier,
        )

    async def refreshed(self, tokens: Tokens, *, client: str = "spa", key: ECKey | None = None, **more: str) -> Tokens:
        """New tokens for a refresh token; it rotates."""
        made = await self.token(
            client, key=key, grant_type="refresh_token", refresh_token=tokens["refresh_token"], **more
        )
        assert made["refresh_token"] != tokens["refresh_token"]
        return made

    async def machine_token(
        self, algorithm: str = "ES256", *, scope: str = SCOPE, resource: str = AUDIENCE, key: ECKey | None = None
    ) -> str:
        """A token of the client that stands for itself; its subject is its own id."""
        made = await self.token(
            f"machine-{algorithm}", key=key, grant_type="client_credentials", scope=scope, resource=resource
        )
        return str(made["access_token"])

    async def token(self, client: str, *, key: ECKey | None = None, **fields: str) -> Tokens:
        """Ask the token endpoint; it must give."""
        headers = {} if key is None else {"DPoP": dpop_proof(key, "POST", f"{self.url}/token")}
        answer = await self.post("/token", client, headers, **fields)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def revoke(self, token: str, client: str = "spa") -> None:
        """RFC 7009."""
        answer = await self.post("/token/revocation", client, {}, token=token)
        assert answer.status_code == 200, answer.text

    async def introspected(self, token: str, client: str = RESOURCE_SERVER) -> dict[str, Any]:
        """RFC 7662."""
        answer = await self.post("/token/introspection", client, {}, token=token)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def post(self, path: str, client: str, headers: dict[str, str], **fields: str) -> httpx2.Response:
        """Post a form as a client: a page shows its id only, all others their secret (RFC 6749, section 2.3.1)."""
        is_public = client.endswith("spa")
        async with _browser() as browser:
            return await browser.post(
                self.url + path,
                data={**fields, "client_id": client} if is_public else fields,
                headers=headers,
                auth=None if is_public else httpx2.BasicAuth(quote(client), quote(SECRET)),
            )


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, unchecked."""
    return dict(decoded(token.split(".")[1]))


def _browser() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=20.0)


@asynccontextmanager
async def foreign_issuer() -> AsyncIterator[ForeignIssuer]:
    """One that runs, and ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="hybrid-issuer-"))
    try:
        issuer = ForeignIssuer(folder)
        try:
            await issuer.start()
            yield issuer
        finally:
            await issuer.process.end()
            print(issuer.process.report())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
