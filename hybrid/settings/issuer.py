"""Whose tokens are accepted: `[[issuers]]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hybrid.settings.words import check_url, doc, refusal

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519", "EdDSA"),
)
"""Signatures that a resource server may pin: asymmetric ones only, never `none` (RFC 8725, section 3.1)."""


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """An authorization server whose access tokens are accepted. A table `[[issuers]]` of the file."""

    url: str = doc("The issuer, exactly as in the tokens' `iss` (RFC 8414).")
    audience: str | None = doc("What the tokens' `aud` must hold; public_url when not given.", None)
    jwks_url: str | None = doc("Where its keys are; found through the issuer's metadata when not given.", None)
    algorithms: tuple[str, ...] = doc(
        f"The signatures accepted; out of {', '.join(ALGORITHMS)}.", ("RS256", "ES256", "Ed25519")
    )
    require_typ: bool = doc("Whether the token's type must be `at+jwt` (RFC 9068); some issuers do not say it.", True)

    def __post_init__(self) -> None:
        check_url("issuers.url", self.url, needs_tls=True)
        if self.jwks_url is not None:
            check_url("issuers.jwks_url", self.jwks_url, needs_tls=True)
        if not self.algorithms:
            raise refusal("issuers.algorithms must name at least one algorithm.")
        for algorithm in self.algorithms:
            if algorithm not in ALGORITHMS:
                raise refusal(f"issuers.algorithms: {algorithm!r} is not accepted; use {', '.join(ALGORITHMS)}.")
