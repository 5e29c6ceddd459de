"""Everything that one server is told, checked as a whole."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from hybrid.limits import Limits
from hybrid.settings.bounds import check_limits
from hybrid.settings.hooks import HooksSettings
from hybrid.settings.issuer import IssuerSettings
from hybrid.settings.namespace import Namespace
from hybrid.settings.words import check_choice, check_url, doc, host_in_url, is_loopback, is_plain_name, listed, refusal

BROKER_SCHEMES: Final = tuple(
    f"{name}{tls}{kind}" for name in ("redis", "valkey") for kind in ("", "+sentinel", "+cluster") for tls in ("", "s")
)
"""What the URL of a broker other than the embedded one starts with."""
SECRET_MIN_CHARACTERS: Final = 32
_SECRET_HINT: Final = (
    "set HYBRID_SECRET on every node to the same text, for example what `openssl rand -base64 32` prints."
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a server is told. Empty `public_url`, `allowed_hosts` and `namespaces` are filled in when it is made.

    Raises SettingsError for values that contradict each other. An empty `issuers` without `development_issuer` is
    refused by `load` only: an application that brings its own verifier needs neither.
    """

    host: str = doc("The address to listen on.", "127.0.0.1")
    port: int = doc("The port to listen on; 0 takes a free one.", 8000)
    loop: Literal["auto", "uvloop", "asyncio"] = doc(
        'The event loop: "uvloop", "asyncio", or "auto" for uvloop where it is installed.', "auto"
    )
    public_url: str = doc(
        "How clients reach the server, and the audience its tokens must name; http://host:port when not given.", ""
    )
    broker: str = doc(
        'Where channels live: "memory:" (in this process), or Redis or Valkey: redis://host:6379/0, '
        "redis+sentinel://host:26379,host:26379/name, redis+cluster://host:6379,host:6379; rediss for TLS.",
        "memory:",
        secret=True,
    )
    secret: str = doc(
        "What all nodes know and nobody else: it signs what they tell each other and what clients carry between them. "
        "At least 32 characters; needed with Redis.",
        "",
        secret=True,
    )
    key_prefix: str = doc("What the names of all keys and channels in Redis start with.", "hybrid")
    workers: int = doc("Processes that serve the same port; more than one needs Redis.", 1)
    trusted_proxies: tuple[str, ...] = doc(
        "Addresses or networks, such as 10.0.0.0/8, whose X-Forwarded-For and X-Forwarded-Proto are believed.", ()
    )
    allowed_origins: tuple[str, ...] = doc(
        "Origins whose pages may connect, each exactly as a browser sends it, such as https://app.example.com.", ()
    )
    allow_same_origin: bool = doc("Whether pages of the server's own origin may connect.", True)
    allowed_hosts: tuple[str, ...] = doc(
        "Accepted `Host` headers: host, host:port or host:*; the public_url's and loopback ones when not given.", ()
    )
    issuers: tuple[IssuerSettings, ...] = doc("Authorization servers; see [[issuers]].", ())
    introspection_secret: str = doc(
        "What proves the client_id of the issuer that is asked about tokens, where its table does not say it.",
        "",
        secret=True,
    )
    session_cookie: str = doc(
        "The session cookie of an application that embeds hybrid, such as __Host-session; off when empty. It needs the "
        "application's `signed_in`.",
        "",
    )
    development_issuer: bool = doc("Whether a toy authorization server is built in; for loopback only.", False)
    allow_public_development_issuer: bool = doc(
        "Spells out that the toy authorization server may run on an address others can reach.", False
    )
    handoff: bool = doc("Whether long-lived connections are taken from the HTTP server, which saves memory.", True)
    fast_accept: bool = doc(
        "Whether plain requests for streams are read in front of the HTTP server, which halves the cost of a connect; "
        "needs handoff.",
        True,
    )
    compression: bool = doc(
        "Whether WebSockets whose clients ask for it (permessage-deflate) get publications compressed; it needs "
        "`handoff`.",
        True,
    )
    fast_requests: bool = doc(
        "Whether short requests on a kept connection are served without the HTTP server behind the first one, which "
        "triples the polls and publishes of a core; needs handoff.",
        True,
    )
    metrics: bool = doc(
        "Whether /metrics tells Prometheus what this server counts: to bearer tokens with the scope hybrid:metrics, "
        "and to metrics_networks. Needs hybrid-realtime[metrics].",
        False,
    )
    metrics_networks: tuple[str, ...] = doc(
        "Addresses or networks, such as 10.1.2.0/24, that may read /metrics without a token. Requests that came "
        "through a proxy always need one.",
        (),
    )
    admin: bool = doc(
        "Whether /admin serves the operators' page. It holds no data: what it shows and does, it asks of the server "
        "API with the operator's token, which needs hybrid:admin; see docs/operating.md.",
        False,
    )
    tracing: bool = doc(
        "Whether OpenTelemetry spans are made of requests, attaches, publishes and what the broker is asked. Needs "
        "hybrid-realtime[otel], and an SDK that takes them somewhere; see docs/operating.md.",
        False,
    )
    static_dir: str | None = doc("A directory with the browser client; the packaged one when not given.", None)
    log_level: Literal["debug", "info", "warning", "error"] = doc("How much is logged.", "info")
    log_format: Literal["readable", "json"] = doc(
        'How: "readable" lines, or "json", one object a line; see docs/operating.md.', "readable"
    )
    log_principals: Literal["hashed", "plain"] = doc(
        'How logs name whom a token speaks for: "hashed" with a key made from `secret`, or "plain".', "hashed"
    )
    hooks: HooksSettings = field(
        default_factory=HooksSettings, metadata={"doc": "The application's backend over HTTP; see [hooks]."}
    )
    limits: Limits = field(default_factory=Limits, metadata={"doc": "Bounds and intervals; see [limits]."})
    namespaces: dict[str, Namespace] = field(
        default_factory=dict, metadata={"doc": "Options of channels; see [namespaces.<name>]."}
    )

    def __post_init__(self) -> None:
        _check_server(self)
        fill: dict[str, Any] = {}
        if not self.public_url:
            fill["public_url"] = f"http://{host_in_url(self.host)}:{self.port}"
        if not self.allowed_hosts:
            fill["allowed_hosts"] = _default_hosts(fill.get("public_url", self.public_url), self.host, self.port)
        if not self.namespaces:
            fill["namespaces"] = {"default": Namespace("default")}
        for name, value in fill.items():
            object.__setattr__(self, name, value)
        check_limits(self.limits)
        _check_issuers(self)
        _check_hooks(self)
        for namespace in self.namespaces.values():
            if namespace.data_max_bytes is not None and namespace.data_max_bytes > self.limits.data_max_bytes:
                raise refusal(
                    f"namespaces.{namespace.name}.data_max_bytes ({namespace.data_max_bytes}) cannot be larger than "
                    f"limits.data_max_bytes ({self.limits.data_max_bytes})."
                )

    @property
    def is_memory_broker(self) -> bool:
        """True for the embedded broker, which lives in one process."""
        return self.broker == "memory:"

    def namespace_for(self, channel: str) -> Namespace | None:
        """The options of a channel by its name; None when no table covers it, and then nobody may use it.

        A name whose prefix has no table, or that has no `:`, belongs to `[namespaces.default]`. That table exists by
        itself only where no table is written at all.
        """
        prefix, colon, _ = channel.partition(":")
        own = self.namespaces.get(prefix) if colon else None
        return own or self.namespaces.get("default")

    def at_port(self, port: int) -> Settings:
        """The same settings for the port that was really taken, with the values that were derived from it anew."""
        derived = Settings(host=self.host, port=self.port)
        public_url = "" if self.public_url == derived.public_url else self.public_url
        is_derived = self.allowed_hosts == _default_hosts(self.public_url, self.host, self.port)
        allowed_hosts = () if is_derived else self.allowed_hosts
        return replace(self, port=port, public_url=public_url, allowed_hosts=allowed_hosts)


def _default_hosts(public_url: str, host: str, port: int) -> tuple[str, ...]:
    hosts = [urlsplit(public_url).netloc, f"{host_in_url(host)}:{port}"]
    hosts += [f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]")]
    return tuple(dict.fromkeys(hosts))


def _check_issuers(settings: Settings) -> None:
    asked = [issuer for issuer in settings.issuers if issuer.client_id]
    if len(asked) > 1:
        # A token that is no JWT does not say whose it is, and nobody's tokens may be shown to another issuer.
        named = " and ".join(issuer.url for issuer in asked)
        raise refusal(f"issuers: only one can be asked about tokens, and {named} have a client_id.")
    for issuer in asked:
        if not (issuer.client_secret or settings.introspection_secret):
            raise refusal(f"issuers.client_id of {issuer.url} needs client_secret, or HYBRID_INTROSPECTION_SECRET.")
    if settings.introspection_secret and not asked:
        raise refusal("introspection_secret has no effect: no issuer has a client_id.")
    if len({issuer.url for issuer in settings.issuers}) != len(settings.issuers):
        raise refusal("issuers: the same url stands in two tables.")


def _check_hooks(settings: Settings) -> None:
    if not settings.hooks.url:
        for namespace in settings.namespaces.values():
            if "hook" in (namespace.subscribe, namespace.publish):
                raise refusal(f'namespaces.{namespace.name} says "hook" and needs hooks.url: somebody has to be asked.')
    for name in settings.hooks.tell_namespaces:
        if name not in settings.namespaces:
            raise refusal(f"hooks.tell_namespaces: there is no [namespaces.{name}].")


def _check_server(settings: Settings) -> None:
    if not 0 <= settings.port <= 65_535:
        raise refusal(f"port must lie between 0 and 65535, not {settings.port}.")
    if not settings.host:
        raise refusal("host must not be empty; 127.0.0.1 listens on this machine only, 0.0.0.0 on all addresses.")
    check_choice("loop", settings.loop, Literal["auto", "uvloop", "asyncio"])
    check_choice("log_format", settings.log_format, Literal["readable", "json"])
    check_choice("log_principals", settings.log_principals, Literal["hashed", "plain"])
    check_choice("log_level", settings.log_level, Literal["debug", "info", "warning", "error"])
    _check_nodes(settings)
    if settings.public_url:
        check_url("public_url", settings.public_url, needs_tls=False)
    for origin in settings.allowed_origins:
        try:
            parts = urlsplit(origin)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise refusal(
                f"allowed_origins: {origin!r} is not an origin; accepted is scheme://host[:port] without a path, "
                "such as https://app.example.com, and never '*'."
            )
    for host in settings.allowed_hosts:
        name = host.removesuffix(":*")
        if not name or any(c in name for c in "/*, @") or not host.isprintable():
            raise refusal(
                f"allowed_hosts: {host!r} is not a host; accepted is host, host:port, or host:* for any port."
            )
    if settings.development_issuer and not settings.allow_public_development_issuer and not is_loopback(settings.host):
        raise refusal(
            f"development_issuer gives a token to anybody who asks, and host {settings.host} can be reached by others; "
            "bind to 127.0.0.1, or set allow_public_development_issuer = true if that is meant."
        )


def _check_nodes(settings: Settings) -> None:
    if not settings.is_memory_broker and settings.broker.partition("://")[0] not in BROKER_SCHEMES:
        # The value may hold a password, so it is not shown.
        raise refusal(f'broker must be "memory:" or a URL that starts with {listed(BROKER_SCHEMES)}, then "://".')
    if settings.workers < 1:
        raise refusal(f"workers must be 1 or more, not {settings.workers}.")
    if settings.workers > 1 and settings.is_memory_broker:
        raise refusal(
            f"workers = {settings.workers} needs Redis: each worker would have channels of its own in memory. Set "
            'broker = "redis://host:6379/0", or workers = 1.'
        )
    if 0 < len(settings.secret) < SECRET_MIN_CHARACTERS:
        raise refusal(f"secret must have at least {SECRET_MIN_CHARACTERS} characters, random ones: {_SECRET_HINT}")
    if not settings.is_memory_broker and not settings.secret:
        raise refusal(f"broker = Redis needs a secret that all nodes share: {_SECRET_HINT}")
    if not is_plain_name(settings.key_prefix):
        raise refusal("key_prefix must be 1 to 64 letters, digits, '.', '_' or '-'.")
    for key in ("trusted_proxies", "metrics_networks"):
        for network in getattr(settings, key):
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise refusal(
                    f"{key}: {network!r} is neither an address nor a network such as 10.0.0.0/8 (no bits set behind "
                    "the mask)."
                ) from None
    if settings.metrics_networks and not settings.metrics:
        raise refusal("metrics_networks has no effect without metrics = true.")
