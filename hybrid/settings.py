"""`hybrid.toml` and `HYBRID_*` -> frozen `Settings`. The only reader of the environment.

What is later in this list wins: the defaults below, the file, the environment, the options of the command line. A key
that is not known, a value of the wrong type and two keys that contradict each other are all refused with one sentence
that names the key and says what is accepted: a server that starts has understood everything it was told.

`settings_page.describe()` writes `docs/settings.md` from what stands here.
"""

# ruff: noqa: RUF009 -- `_doc` is dataclasses.field with a line of documentation; it makes no shared default

from __future__ import annotations

import ipaddress
import math
import os
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from hybrid.errors import SettingsError
from hybrid.limits import Limits

FILE_NAME: Final = "hybrid.toml"
"""Read from the working directory when neither `--settings` nor `HYBRID_SETTINGS` names another file."""
ENVIRONMENT_PREFIX: Final = "HYBRID_"
NOT_SETTINGS: Final = frozenset({"HYBRID_SETTINGS", "HYBRID_URL", "HYBRID_TOKEN"})
"""Variables with the prefix that are no settings of a server: the file's name, and what the client commands use."""
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519", "EdDSA"),
)
"""Signatures that a resource server may pin: asymmetric ones only, never `none` (RFC 8725, section 3.1)."""

BROKER_SCHEMES: Final = tuple(
    f"{name}{tls}{kind}" for name in ("redis", "valkey") for kind in ("", "+sentinel", "+cluster") for tls in ("", "s")
)
"""What the URL of a broker other than the embedded one starts with."""
SECRET_MIN_CHARACTERS: Final = 32
WORKER_SILENCE_MIN_S: Final = 3.0
_SERVICE_VARIABLES: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
_SECRET_HINT: Final = (
    "set HYBRID_SECRET on every node to the same text, for example what `openssl rand -base64 32` prints."
)

Access: TypeAlias = Literal["scope", "token", "anyone"]


def _doc(text: str, default: Any = MISSING, *, secret: bool = False) -> Any:
    """A dataclass field that carries its own line of documentation; a secret one does not show in a `repr`."""
    return field(default=default, repr=not secret, metadata={"doc": text})


@dataclass(frozen=True, slots=True)
class Namespace:
    """The options of all channels whose names start with `<name>:`. A table `[namespaces.<name>]` of the file."""

    name: str = _doc("What stands before the first `:` of a channel's name; the name of the table.")
    subscribe: Access = _doc(
        'Who may read: "scope" (a token whose scope names the channel), "token" (any valid token) or "anyone".', "scope"
    )
    publish: Access = _doc("Who may publish; the same words.", "scope")
    allow_anonymous_publish: bool = _doc(
        'Spells out that publish = "anyone" is meant: without it that is refused.', False
    )
    history_size: int = _doc("Publications kept for readers that come back; 0 keeps none.", 100)
    history_ttl_s: float = _doc("How long a publication is kept, in seconds.", 300.0)
    presence: bool = _doc("Whether one can ask who is on a channel.", False)
    join_leave: bool = _doc("Whether comings and goings are pushed to subscribers; needs presence.", False)
    on_lag: Literal["reset", "close"] = _doc(
        'What a client meets that reads more slowly than history reaches: "reset" or "close".', "reset"
    )
    data_max_bytes: int | None = _doc("A smaller bound for one publication's data than the limit of that name.", None)
    durable: bool = _doc("Whether a publish is answered only after a replica has it, where the broker has one.", False)

    def __post_init__(self) -> None:
        where = f"namespaces.{self.name}"
        _check_choice(f"{where}.subscribe", self.subscribe, Access)
        _check_choice(f"{where}.publish", self.publish, Access)
        _check_choice(f"{where}.on_lag", self.on_lag, Literal["reset", "close"])
        if not self.name or not _is_plain_name(self.name):
            raise _refusal(f"{where} is not a usable name: 1 to 64 letters, digits, '.', '_' and '-' are accepted.")
        if self.publish == "anyone" and not self.allow_anonymous_publish:
            raise _refusal(
                f'{where}.publish = "anyone" lets everybody write; if that is meant, add '
                "allow_anonymous_publish = true to the same table."
            )
        if self.allow_anonymous_publish and self.publish != "anyone":
            raise _refusal(
                f'{where}.allow_anonymous_publish = true has no effect unless publish = "anyone"; drop one of them.'
            )
        if self.history_size < 0:
            raise _refusal(f"{where}.history_size must be 0 or more, not {self.history_size}.")
        if not 0 < self.history_ttl_s < math.inf:
            raise _refusal(f"{where}.history_ttl_s must be a positive number of seconds, not {self.history_ttl_s}.")
        if self.data_max_bytes is not None and self.data_max_bytes <= 0:
            raise _refusal(f"{where}.data_max_bytes must be positive, not {self.data_max_bytes}.")
        if self.join_leave and not self.presence:
            raise _refusal(f"{where}.join_leave = true needs presence = true in the same table.")


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """An authorization server whose access tokens are accepted. A table `[[issuers]]` of the file."""

    url: str = _doc("The issuer, exactly as in the tokens' `iss` (RFC 8414).")
    audience: str | None = _doc("What the tokens' `aud` must hold; public_url when not given.", None)
    jwks_url: str | None = _doc("Where its keys are; found through the issuer's metadata when not given.", None)
    algorithms: tuple[str, ...] = _doc(
        f"The signatures accepted; out of {', '.join(ALGORITHMS)}.", ("RS256", "ES256", "Ed25519")
    )
    require_typ: bool = _doc("Whether the token's type must be `at+jwt` (RFC 9068); some issuers do not say it.", True)

    def __post_init__(self) -> None:
        _check_url("issuers.url", self.url, needs_tls=True)
        if self.jwks_url is not None:
            _check_url("issuers.jwks_url", self.jwks_url, needs_tls=True)
        if not self.algorithms:
            raise _refusal("issuers.algorithms must name at least one algorithm.")
        for algorithm in self.algorithms:
            if algorithm not in ALGORITHMS:
                raise _refusal(f"issuers.algorithms: {algorithm!r} is not accepted; use {', '.join(ALGORITHMS)}.")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a server is told. Empty `public_url`, `allowed_hosts` and `namespaces` are filled in when it is made.

    Raises SettingsError for values that contradict each other. An empty `issuers` without `development_issuer` is
    refused by `load` only: an application that brings its own verifier needs neither.
    """

    host: str = _doc("The address to listen on.", "127.0.0.1")
    port: int = _doc("The port to listen on; 0 takes a free one.", 8000)
    loop: Literal["auto", "uvloop", "asyncio"] = _doc(
        'The event loop: "uvloop", "asyncio", or "auto" for uvloop where it is installed.', "auto"
    )
    public_url: str = _doc(
        "How clients reach the server, and the audience its tokens must name; http://host:port when not given.", ""
    )
    broker: str = _doc(
        'Where channels live: "memory:" (in this process), or Redis or Valkey: redis://host:6379/0, '
        "redis+sentinel://host:26379,host:26379/name, redis+cluster://host:6379,host:6379; rediss for TLS.",
        "memory:",
        secret=True,
    )
    secret: str = _doc(
        "What all nodes know and nobody else: it signs what they tell each other and what clients carry between them. "
        "At least 32 characters; needed with Redis.",
        "",
        secret=True,
    )
    key_prefix: str = _doc("What the names of all keys and channels in Redis start with.", "hybrid")
    workers: int = _doc("Processes that serve the same port; more than one needs Redis.", 1)
    trusted_proxies: tuple[str, ...] = _doc(
        "Addresses or networks, such as 10.0.0.0/8, whose X-Forwarded-For and X-Forwarded-Proto are believed.", ()
    )
    allowed_origins: tuple[str, ...] = _doc(
        "Origins whose pages may connect, each exactly as a browser sends it, such as https://app.example.com.", ()
    )
    allow_same_origin: bool = _doc("Whether pages of the server's own origin may connect.", True)
    allowed_hosts: tuple[str, ...] = _doc(
        "Accepted `Host` headers: host, host:port or host:*; the public_url's and loopback ones when not given.", ()
    )
    issuers: tuple[IssuerSettings, ...] = _doc("Authorization servers; see [[issuers]].", ())
    development_issuer: bool = _doc("Whether a toy authorization server is built in; for loopback only.", False)
    allow_public_development_issuer: bool = _doc(
        "Spells out that the toy authorization server may run on an address others can reach.", False
    )
    handoff: bool = _doc("Whether long-lived connections are taken from the HTTP server, which saves memory.", True)
    static_dir: str | None = _doc("A directory with the browser client; the packaged one when not given.", None)
    log_level: Literal["debug", "info", "warning", "error"] = _doc("How much is logged.", "info")
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
        _check_limits(self.limits)
        for namespace in self.namespaces.values():
            if namespace.data_max_bytes is not None and namespace.data_max_bytes > self.limits.data_max_bytes:
                raise _refusal(
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


@dataclass(frozen=True, slots=True)
class ClientEnvironment:
    """What the client commands take from the environment: `HYBRID_URL` and `HYBRID_TOKEN`."""

    url: str = "http://127.0.0.1:8000"
    token: str = field(default="", repr=False)


def client_environment(environ: Mapping[str, str] | None = None) -> ClientEnvironment:
    """Where the client commands go, and with which token, when no option says it."""
    environ = os.environ if environ is None else environ
    return ClientEnvironment(
        url=environ.get("HYBRID_URL") or ClientEnvironment().url, token=environ.get("HYBRID_TOKEN", "").strip()
    )


@dataclass(frozen=True, slots=True)
class ServiceEnvironment:
    """What systemd put into the environment (sd_notify(3), sd_watchdog_enabled(3)); empty where it did not start us."""

    notify_socket: str = ""
    watchdog_s: float | None = None


def service_environment(environ: Mapping[str, str] | None = None, pid: int | None = None) -> ServiceEnvironment:
    """What the service manager wants to hear from this process."""
    environ = os.environ if environ is None else environ
    address = environ.get("NOTIFY_SOCKET", "")
    watchdog_usec, meant = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    is_meant = meant in ("", str(os.getpid() if pid is None else pid))
    return ServiceEnvironment(
        notify_socket=address if address.startswith(("/", "@")) else "",
        watchdog_s=int(watchdog_usec) / 1e6 if is_meant and watchdog_usec.isdecimal() and int(watchdog_usec) else None,
    )


def worker_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a worker: this process's own, without what only its supervisor may use."""
    environ = os.environ if environ is None else environ
    return {name: value for name, value in environ.items() if name not in _SERVICE_VARIABLES}


def load(
    path: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    fill_in_issuer: bool = False,
) -> Settings:
    """Read the file, then the environment, then `overrides` (fields of Settings by name).

    `path` None reads the file that `HYBRID_SETTINGS` names, else `hybrid.toml` where there is one; a file that was
    named must exist. `environ` None is this process's own. With `fill_in_issuer`, a server without any issuer that is
    bound to loopback gets the development issuer, unless it was told `development_issuer = false`. Raises
    SettingsError.
    """
    environ = os.environ if environ is None else environ
    tree = _read_file(path, environ)
    _merge_environment(tree, environ)
    for key, value in (overrides or {}).items():
        tree[key] = value
    settings = _build(tree)
    if settings.issuers or settings.development_issuer:
        return settings
    if fill_in_issuer and "development_issuer" not in tree and is_loopback(settings.host):
        return replace(settings, development_issuer=True)
    raise _refusal(
        'No issuer is configured: name one with url = "https://..." in a table [[issuers]], or set '
        "development_issuer = true on a loopback address."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address. Names other than `localhost` count as reachable."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def host_in_url(host: str) -> str:
    """A host as it stands in a URL: IPv6 addresses in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


# -- reading


def _read_file(path: str | None, environ: Mapping[str, str]) -> dict[str, Any]:
    named = path or environ.get("HYBRID_SETTINGS")
    name = named or FILE_NAME
    try:
        with open(name, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        if named is None:
            return {}
        raise _refusal(f"The settings file {name} does not exist.") from None
    except OSError as error:
        raise _refusal(f"The settings file {name} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise _refusal(f"The settings file {name} is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise _refusal(f"The settings file {name} is not valid TOML: {error}.") from None


def _merge_environment(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Put `HYBRID_PORT` and its like into the tree, as text that `_convert` understands."""
    plain = {item.name.upper(): item.name for item in fields(Settings) if item.name not in ("limits", "namespaces")}
    limits = {item.name.upper(): item.name for item in fields(Limits)}
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        rest, text = variable.removeprefix(ENVIRONMENT_PREFIX), environ[variable]
        if rest == "ISSUERS":
            tree["issuers"] = [{"url": url} for url in _split_list(text)]
        elif rest in plain:
            tree[plain[rest]] = _Text(text, variable)
        elif rest.startswith("LIMITS_") and rest.removeprefix("LIMITS_") in limits:
            _table(tree, "limits")[limits[rest.removeprefix("LIMITS_")]] = _Text(text, variable)
        elif rest.startswith("NAMESPACES_"):
            _merge_namespace(tree, variable, rest.removeprefix("NAMESPACES_"), text)
        else:
            raise _refusal(f"The environment variable {variable} is no setting; docs/settings.md lists them all.")


def _merge_namespace(tree: dict[str, Any], variable: str, rest: str, text: str) -> None:
    """`CHAT_HISTORY_SIZE` -> namespaces.chat.history_size; a name in the file is found whatever its case and dashes."""
    for key in sorted((item.name for item in fields(Namespace) if item.name != "name"), key=len, reverse=True):
        if rest.endswith(f"_{key.upper()}"):
            spelled = rest.removesuffix(f"_{key.upper()}")
            namespaces = _table(tree, "namespaces")
            known = {name.upper().replace("-", "_").replace(".", "_"): name for name in namespaces}
            name = known.get(spelled, spelled.lower())
            _table(namespaces, name, "namespaces.")[key] = _Text(text, variable)
            return
    raise _refusal(f"The environment variable {variable} names no option of a namespace; docs/settings.md lists them.")


class _Text(str):
    """A value from the environment: text that stands for a value of the type wanted. Remembers the variable."""

    __slots__ = ("variable",)
    variable: str

    def __new__(cls, text: str, variable: str) -> _Text:
        made = super().__new__(cls, text)
        made.variable = variable
        return made


def _build(tree: dict[str, Any]) -> Settings:
    values = dict(tree)
    _check_known(values, Settings, "")
    if "limits" in values and not isinstance(values["limits"], Limits):
        table = _table(tree, "limits")
        _check_known(table, Limits, "limits.")
        values["limits"] = Limits(**_convert_all(table, Limits, "limits."))
    if "namespaces" in values:
        values["namespaces"] = {
            name: _build_namespace(name, _table(values["namespaces"], name, "namespaces."))
            for name in _table(tree, "namespaces")
        }
    if "issuers" in values:
        values["issuers"] = tuple(_build_issuers(values["issuers"]))
    rest = {key: value for key, value in values.items() if key not in ("limits", "namespaces", "issuers")}
    return Settings(**{**values, **_convert_all(rest, Settings, "")})


def _build_namespace(name: str, table: Any) -> Namespace:
    where = f"namespaces.{name}."
    _check_known(table, Namespace, where, without=("name",))
    return Namespace(name=name, **_convert_all(table, Namespace, where))


def _build_issuers(tables: Any) -> Iterable[IssuerSettings]:
    if not isinstance(tables, (list, tuple)):
        raise _refusal("issuers must be tables written [[issuers]], each with a url.")
    for table in tables:
        if isinstance(table, IssuerSettings):
            yield table
            continue
        if not isinstance(table, dict):
            raise _refusal("issuers must be tables written [[issuers]], each with a url.")
        _check_known(table, IssuerSettings, "issuers.")
        if "url" not in table:
            raise _refusal("issuers: a table [[issuers]] needs a url.")
        yield IssuerSettings(**_convert_all(table, IssuerSettings, "issuers."))


def _table(tree: dict[str, Any], key: str, where: str = "") -> dict[str, Any]:
    value = tree.setdefault(key, {})
    if not isinstance(value, dict):
        raise _refusal(f"{where}{key} must be a table, written [{where}{key}].")
    return value


def _check_known(table: Mapping[str, Any], kind: type, where: str, without: tuple[str, ...] = ()) -> None:
    known = [item.name for item in fields(kind) if item.name not in without]
    for key in table:
        if key not in known:
            import difflib

            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {where}{near[0]}?" if near else f" Accepted are: {', '.join(known)}."
            raise _refusal(f"{where}{key} is not a setting.{hint}")


def _convert_all(table: Mapping[str, Any], kind: type, where: str) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {key: _convert(f"{where}{key}", value, hints[key]) for key, value in table.items()}


_WANTED: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _convert(key: str, value: Any, hint: Any) -> Any:
    """A value of the file, or the text of a variable, as the type of its field. Raises SettingsError."""
    shown = f"{key} ({value.variable})" if isinstance(value, _Text) else key
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(key, value, next(a for a in typing.get_args(hint) if a is not None))
    if origin is Literal:
        if str(value) not in typing.get_args(hint):
            raise _refusal(f"{shown} must be {_choices(hint)}, not {str(value)!r}.")
        return str(value)
    if origin is tuple:
        items = _split_list(value) if isinstance(value, _Text) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise _refusal(f"{shown} must be a list of texts.")
        return tuple(items)
    converted = _from_text(value, hint) if isinstance(value, _Text) else value
    if hint is float and isinstance(converted, int) and not isinstance(converted, bool):
        converted = float(converted)
    if type(converted) is not hint or (hint is float and not math.isfinite(converted)):
        raise _refusal(f"{shown} must be {_WANTED[hint]}, not {str(value)[:60]!r}.")
    return converted


def _from_text(text: _Text, hint: Any) -> Any:
    """The value that a variable's text stands for, or the text itself where it stands for none."""
    word = text.strip()
    if hint is str:
        return word
    if hint is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(word.lower(), text)
    try:
        return hint(word)
    except ValueError:
        return text


def _split_list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


# -- checks


def _check_server(settings: Settings) -> None:
    if not 0 <= settings.port <= 65_535:
        raise _refusal(f"port must lie between 0 and 65535, not {settings.port}.")
    if not settings.host:
        raise _refusal("host must not be empty; 127.0.0.1 listens on this machine only, 0.0.0.0 on all addresses.")
    _check_choice("loop", settings.loop, Literal["auto", "uvloop", "asyncio"])
    _check_choice("log_level", settings.log_level, Literal["debug", "info", "warning", "error"])
    _check_nodes(settings)
    if settings.public_url:
        _check_url("public_url", settings.public_url, needs_tls=False)
    for origin in settings.allowed_origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise _refusal(
                f"allowed_origins: {origin!r} is not an origin; accepted is scheme://host[:port] without a path, "
                "such as https://app.example.com, and never '*'."
            )
    for host in settings.allowed_hosts:
        name = host.removesuffix(":*")
        if not name or any(c in name for c in "/*, @") or not host.isprintable():
            raise _refusal(
                f"allowed_hosts: {host!r} is not a host; accepted is host, host:port, or host:* for any port."
            )
    if settings.development_issuer and not settings.allow_public_development_issuer and not is_loopback(settings.host):
        raise _refusal(
            f"development_issuer gives a token to anybody who asks, and host {settings.host} can be reached by others; "
            "bind to 127.0.0.1, or set allow_public_development_issuer = true if that is meant."
        )


def _check_nodes(settings: Settings) -> None:
    if not settings.is_memory_broker and settings.broker.partition("://")[0] not in BROKER_SCHEMES:
        # The value may hold a password, so it is not shown.
        raise _refusal(f'broker must be "memory:" or a URL that starts with {_listed(BROKER_SCHEMES)}, then "://".')
    if settings.workers < 1:
        raise _refusal(f"workers must be 1 or more, not {settings.workers}.")
    if settings.workers > 1 and settings.is_memory_broker:
        raise _refusal(
            f"workers = {settings.workers} needs Redis: each worker would have channels of its own in memory. Set "
            'broker = "redis://host:6379/0", or workers = 1.'
        )
    if 0 < len(settings.secret) < SECRET_MIN_CHARACTERS:
        raise _refusal(f"secret must have at least {SECRET_MIN_CHARACTERS} characters, random ones: {_SECRET_HINT}")
    if not settings.is_memory_broker and not settings.secret:
        raise _refusal(f"broker = Redis needs a secret that all nodes share: {_SECRET_HINT}")
    if not _is_plain_name(settings.key_prefix):
        raise _refusal("key_prefix must be 1 to 64 letters, digits, '.', '_' or '-'.")
    for proxy in settings.trusted_proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise _refusal(
                f"trusted_proxies: {proxy!r} is neither an address nor a network such as 10.0.0.0/8 (no bits set "
                "behind the mask)."
            ) from None


def _check_limits(limits: Limits) -> None:
    for item in fields(Limits):
        value = getattr(limits, item.name)
        if not 0 < value < math.inf:
            raise _refusal(f"limits.{item.name} must be positive, not {value}.")
    for smaller, larger, may_be_equal in (
        ("low_water_bytes", "high_water_bytes", False),
        ("data_max_bytes", "command_max_bytes", False),
        ("command_max_bytes", "body_max_bytes", True),
        ("attach_max_bytes", "body_max_bytes", True),
        ("token_max_bytes", "auth_frame_max_bytes", False),
        ("ring_max_bytes", "rings_max_bytes", True),
        ("unauthenticated_per_address_max", "unauthenticated_max", True),
        ("channels_per_request_max", "channels_per_session_max", True),
    ):
        low, high = getattr(limits, smaller), getattr(limits, larger)
        if low > high or (low == high and not may_be_equal):
            at_most = "at most" if may_be_equal else "less than"
            raise _refusal(f"limits.{smaller} ({low}) must be {at_most} limits.{larger} ({high}).")
    if limits.worker_silence_s < WORKER_SILENCE_MIN_S:
        raise _refusal(
            f"limits.worker_silence_s must be at least {WORKER_SILENCE_MIN_S:g}, for workers show themselves once a "
            f"second; not {limits.worker_silence_s}."
        )
    if limits.heartbeat_grace_intervals <= 1:
        raise _refusal("limits.heartbeat_grace_intervals must be more than 1, or every heartbeat would come too late.")


def _check_choice(key: str, value: str, kind: Any) -> None:
    if value not in typing.get_args(kind):
        raise _refusal(f"{key} must be {_choices(kind)}, not {value!r}.")


def _choices(kind: Any) -> str:
    return _listed(typing.get_args(kind))


def _listed(words: Iterable[str]) -> str:
    quoted = [f'"{word}"' for word in words]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _check_url(key: str, url: str, *, needs_tls: bool) -> None:
    parts = urlsplit(url)
    try:
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or "@" in parts.netloc:
        raise _refusal(f"{key} must be an absolute http or https URL without query or fragment, not {url!r}.")
    if needs_tls and parts.scheme == "http" and not is_loopback(host):
        raise _refusal(f"{key} must be https, for keys must not be read over plain http; got {url!r}.")


def _is_plain_name(name: str) -> bool:
    return len(name) <= 64 and name.isascii() and all(c.isalnum() or c in "._-" for c in name)


def _default_hosts(public_url: str, host: str, port: int) -> tuple[str, ...]:
    listed = [urlsplit(public_url).netloc, f"{host_in_url(host)}:{port}"]
    listed += [f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]")]
    return tuple(dict.fromkeys(listed))


def _refusal(sentence: str) -> SettingsError:
    return SettingsError(detail=sentence)
