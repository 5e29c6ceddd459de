"""The settings' issuers -> who checks tokens."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from hybrid.auth.development import DevelopmentIssuer
from hybrid.auth.hooks import Finish
from hybrid.auth.introspection import IntrospectionConfig, Introspector
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.rules import GrantRule
from hybrid.auth.verifiers import AnyTokenVerifier
from hybrid.clock import Clock
from hybrid.settings import IssuerSettings, Settings


def make_verifier(
    settings: Settings, development: DevelopmentIssuer | None, clock: Clock, finish: Finish
) -> AnyTokenVerifier:
    """Who checks the tokens of all configured issuers, and of the development issuer if there is one."""
    configs = [_jwt_config(issuer) for issuer in settings.issuers]
    if development is not None:
        configs.append(IssuerConfig(issuer=development.issuer, keys=development.keys))
    jwts = JwtVerifier(configs, settings.public_url, clock, settings.limits, finish=finish)
    for issuer in settings.issuers:
        if issuer.client_id:
            config = _introspection_config(issuer, settings)
            return AnyTokenVerifier(jwts, Introspector(config, clock, settings.limits, finish=finish))
    return AnyTokenVerifier(jwts)


def _jwt_config(issuer: IssuerSettings) -> IssuerConfig:
    return IssuerConfig(
        audience=issuer.audience,
        jwks_url=issuer.jwks_url,
        algorithms=tuple(issuer.algorithms),
        requires_typ=issuer.require_typ,
        **_both(issuer),
    )


def _introspection_config(issuer: IssuerSettings, settings: Settings) -> IntrospectionConfig:
    return IntrospectionConfig(
        audience=issuer.audience or settings.public_url,
        client_id=issuer.client_id or "",
        client_secret=issuer.client_secret or settings.introspection_secret,
        url=issuer.introspection_url,
        requires_audience=issuer.introspection_requires_audience,
        **_both(issuer),
    )


def _both(issuer: IssuerSettings) -> dict[str, Any]:
    """What holds for its tokens of either kind."""
    return {
        "issuer": issuer.url,
        "scope_claim": issuer.scope_claim,
        "channels_claim": issuer.channels_claim,
        "rules": tuple(
            GrantRule(
                scope=rule.scope,
                claim=rule.claim,
                value=rule.value,
                subscribe=rule.subscribe,
                publish=rule.publish,
                revoke=rule.revoke,
                metrics=rule.metrics,
                manage=rule.manage,
            )
            for rule in issuer.grants
        ),
        "http_hosts": _http_hosts(issuer),
    }


def _http_hosts(issuer: IssuerSettings) -> frozenset[str]:
    """The hosts that may be asked in the clear: those that the settings name with http (loopback, they see to it)."""
    parts = [urlsplit(url) for url in (issuer.url, issuer.jwks_url, issuer.introspection_url) if url]
    return frozenset(part.hostname for part in parts if part.scheme == "http" and part.hostname)
