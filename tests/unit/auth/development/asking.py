"""An issuer on a clock moved by hand, and what clients and people do with it."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hybrid.auth.development import RESOURCE_CLIENT, RESOURCE_SECRET, DevelopmentIssuer, TokenAnswer
from tests.support.tokens import AUDIENCE, HandClock

URL = "http://127.0.0.1:8000/dev-issuer"
PAGE = "http://127.0.0.1:8000/"
SCOPE = "hybrid:subscribe:demo:* hybrid:publish:demo:chat"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


class Asking:
    """Each method is one request; `answer.body` has what came of it."""

    def __init__(self, **options: Any) -> None:
        self.clock = HandClock()
        self.issuer = DevelopmentIssuer(URL, AUDIENCE, self.clock, **options)

    def query(self, **changes: str | None) -> list[tuple[str, str]]:
        """The parameters of a good authorization request, but for the changes; None leaves one out."""
        made: dict[str, str | None] = {
            "response_type": "code",
            "client_id": "demo",
            "redirect_uri": PAGE,
            "scope": SCOPE,
            "state": "s1",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            **changes,
        }
        return [(name, value) for name, value in made.items() if value is not None]

    def consent(self, subject: str | None = "ada", **changes: str | None) -> dict[str, str]:
        """The parameters of the redirect after the decision."""
        return returned(self.issuer.consent_answer(self.query(**changes), subject))

    def token(self, **fields: str) -> TokenAnswer:
        return self.issuer.token_answer({"client_id": "demo", **fields}.items(), {})

    def redeem(self, code: str, **changes: str) -> TokenAnswer:
        fields = {"redirect_uri": PAGE, "code_verifier": VERIFIER, **changes}
        return self.token(grant_type="authorization_code", code=code, **fields)

    def sign_in(self, subject: str = "ada") -> TokenAnswer:
        answer = self.redeem(self.consent(subject)["code"])
        assert answer.status == 200, answer.body
        return answer

    def refresh(self, token: str, **changes: str) -> TokenAnswer:
        return self.token(grant_type="refresh_token", refresh_token=token, **changes)

    def begin_device(self, **changes: str) -> TokenAnswer:
        return self.issuer.device_answer({"client_id": "cli", **changes}.items(), {})

    def poll(self, device_code: str, **changes: str) -> TokenAnswer:
        return self.token(**{"client_id": "cli", "grant_type": DEVICE, "device_code": device_code, **changes})

    def revoke(self, token: str, **changes: str) -> TokenAnswer:
        return self.issuer.revocation_answer({"client_id": "demo", "token": token, **changes}.items(), {})

    def introspect(self, token: str, **changes: str) -> dict[str, Any]:
        answer = self.issuer.introspection_answer({"token": token, **changes}.items(), basic())
        assert answer.status == 200
        return dict(answer.body)

    def is_active(self, token: str) -> bool:
        active: bool = self.introspect(token)["active"]
        return active


def basic(secret: str = RESOURCE_SECRET, client: str = RESOURCE_CLIENT) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()}


def returned(answer: object) -> dict[str, str]:
    """The parameters of a redirect to the page."""
    assert isinstance(answer, TokenAnswer)
    assert answer.status == 303
    assert answer.location is not None
    assert answer.location.startswith(PAGE + "?")
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.location).query).items()}


def claims(token: str) -> dict[str, Any]:
    """What a JWT says, unchecked."""
    payload = token.split(".")[1]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return read
