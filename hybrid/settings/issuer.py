"""Whose tokens are accepted: `[[issuers]]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hybrid.settings.words import check_url, doc, refusal

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519", "EdDSA"),
)
"""Signatures that a resource server may pin: asymmetric ones only, never `none` (RFC 8725, section 3.1)."""
_MANAGED: Final = re.compile(
    r"sessions|disconnect|nodes|drain|admin|(?:channels|purge|assign):(?:\*|(?:[!#$&-)+-\[\]-~]|%[0-9A-Fa-f]{2})+\*?)"
)
_BRACES: Final = re.compile(r"\{[A-Za-z0-9_.:/-]+\}")


@dataclass(frozen=True, slots=True)
class GrantSettings:
    """What tokens of an issuer permit, and which ones. A table `[[issuers.grants]]` below the issuer's."""

    scope: str = doc("Only tokens with this scope; neither scope nor claim: all of them.", "")
    claim: str = doc("Only tokens with this claim, a name or a path such as realm_access.roles.", "")
    value: str = doc("What the claim must be, or hold where it is a list; anything true when not given.", "")
    subscribe: tuple[str, ...] = doc(
        "Channels that may be read: names, with one * at the end for all that start so; {sub} is the token's subject, "
        "{name} any other claim, percent-encoded.",
        (),
    )
    publish: tuple[str, ...] = doc("Channels that may be written, likewise.", ())
    revoke: bool = doc("Whether tokens may be revoked and sessions ended.", False)
    metrics: bool = doc("Whether /metrics may be read.", False)
    manage: tuple[str, ...] = doc(
        "What of the server may be managed (docs/server-api.md): sessions, disconnect, nodes, drain, admin; channels:, "
        "purge: and assign: with a channel's name, or with one * at its end for all that start so.",
        (),
    )

    def __post_init__(self) -> None:
        where = "issuers.grants"
        if self.scope and self.claim:
            raise refusal(f"{where}: give scope or claim, or neither; a second table says the other.")
        if self.value and not self.claim:
            raise refusal(f"{where}: value needs claim.")
        if not (self.subscribe or self.publish or self.revoke or self.metrics or self.manage):
            raise refusal(f"{where}: a table grants something: give subscribe, publish, revoke, metrics or manage.")
        for what in self.manage:
            if _MANAGED.fullmatch(what) is None:
                raise refusal(
                    f"{where}: {what!r} cannot be managed; accepted are sessions, disconnect, nodes, drain, admin, "
                    "and channels:, purge: and assign: with a channel's name or one * at its end, percent-encoded."
                )
        for pattern in (*self.subscribe, *self.publish):
            if pattern.endswith("}*"):
                raise refusal(
                    f"{where}: {pattern!r} would give one the channels of all whose names go on behind his; put a "
                    "separator in between, such as {sub}:*."
                )
            if not pattern or "*" in pattern[:-1] or _BRACES.sub("", pattern).count("{"):
                raise refusal(
                    f"{where}: {pattern!r} is no pattern; accepted is a name, with {{claim}} for a claim's value and "
                    "one * at the end for all that start so."
                )


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """An authorization server whose access tokens are accepted. A table `[[issuers]]` of the file."""

    url: str = doc("The issuer, exactly as in the tokens' `iss` (RFC 8414).")
    audience: str | None = doc("What the tokens' `aud` must hold; public_url when not given.", None)
    jwks_url: str | None = doc("Where its keys are; found through the issuer's metadata when not given.", None)
    algorithms: tuple[str, ...] = doc(
        f"The signatures accepted; out of {', '.join(ALGORITHMS)}.", ("RS256", "ES256", "Ed25519")
    )
    scope_claim: str = doc("The claim that holds the scopes: text, or a list of texts.", "scope")
    channels_claim: str = doc(
        "The claim that lists channels to which a session is subscribed when it begins, and which its token may read; "
        "none when not given.",
        "",
    )
    introspection_url: str | None = doc(
        "Where tokens that are no JWTs are asked about (RFC 7662); found through the metadata when not given. Needs "
        "client_id.",
        None,
    )
    client_id: str | None = doc("Our own name at this issuer; with it, tokens that are no JWTs are asked about.", None)
    client_secret: str | None = doc("What proves it; HYBRID_INTROSPECTION_SECRET says it, too.", None, secret=True)
    introspection_requires_audience: bool = doc(
        "Whether an answer must name the audience; without it a token for another service is accepted.", True
    )
    grants: tuple[GrantSettings, ...] = doc("What its tokens permit beside their scopes; see [[issuers.grants]].", ())
    require_typ: bool = doc("Whether the token's type must be `at+jwt` (RFC 9068); some issuers do not say it.", True)

    def __post_init__(self) -> None:
        check_url("issuers.url", self.url, needs_tls=True)
        if self.jwks_url is not None:
            check_url("issuers.jwks_url", self.jwks_url, needs_tls=True)
        if self.introspection_url is not None:
            check_url("issuers.introspection_url", self.introspection_url, needs_tls=True)
            if not self.client_id:
                raise refusal("issuers.introspection_url needs client_id: who asks about tokens has to say who it is.")
        if self.client_secret and not self.client_id:
            raise refusal("issuers.client_secret needs client_id.")
        if not self.algorithms:
            raise refusal("issuers.algorithms must name at least one algorithm.")
        for algorithm in self.algorithms:
            if algorithm not in ALGORITHMS:
                raise refusal(f"issuers.algorithms: {algorithm!r} is not accepted; use {', '.join(ALGORITHMS)}.")
