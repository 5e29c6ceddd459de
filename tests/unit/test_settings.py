"""The settings: what is read, what wins, and every refusal with the sentence a person gets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hybrid.errors import SettingsError
from hybrid.limits import Limits
from hybrid.settings import IssuerSettings, Namespace, Settings, client_environment, is_loopback, load
from hybrid.settings_page import describe

ISSUER = '[[issuers]]\nurl = "https://id.example.com"\n'


def read(tmp_path: Path, text: str, environ: dict[str, str] | None = None, **overrides: object) -> Settings:
    path = tmp_path / "hybrid.toml"
    path.write_text(text, encoding="utf-8")
    return load(str(path), environ or {}, overrides)


def test_defaults_are_complete_and_need_no_file() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.broker) == ("127.0.0.1", 8000, "memory:")
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.allowed_hosts == ("127.0.0.1:8000", "localhost:8000", "[::1]:8000")
    assert settings.limits == Limits()
    assert not settings.development_issuer
    assert settings.namespaces == {"default": Namespace("default")}


def test_secrets_are_not_shown() -> None:
    settings = Settings(broker="redis://:hunter2@localhost", secret="s3cret" * 8, workers=2)
    assert "hunter2" not in repr(settings)
    assert "s3cret" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        Settings(broker="kafka://:hunter2@localhost")
    assert "hunter2" not in str(caught.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        'public_url = "https://live.example.com"\nallowed_origins = ["https://app.example.com"]\nloop = "asyncio"\n'
        '[[issuers]]\nurl = "https://id.example.com"\nrequire_typ = false\nalgorithms = ["ES256"]\n'
        "[limits]\ndata_max_bytes = 1000\nheartbeat_interval_s = 5\n"
        "[namespaces.chat]\nhistory_size = 5\npresence = true\njoin_leave = true\n[namespaces.news]\n"
        'subscribe = "anyone"\n',
    )
    assert settings.issuers == (IssuerSettings("https://id.example.com", algorithms=("ES256",), require_typ=False),)
    assert settings.limits.data_max_bytes == 1000
    assert settings.limits.heartbeat_interval_s == 5.0
    assert settings.allowed_hosts[0] == "live.example.com"
    assert settings.allowed_hosts[1:] == ("127.0.0.1:8000", "localhost:8000", "[::1]:8000")
    assert settings.namespaces["chat"].history_size == 5
    assert settings.namespaces["news"].subscribe == "anyone"


def test_environment_wins_over_the_file_and_options_over_both(tmp_path: Path) -> None:
    text = ISSUER + "[limits]\ninbox_max = 3\n[namespaces.chat-room]\nhistory_size = 5\n"
    environ = {
        "HYBRID_PORT": "9000",
        "HYBRID_HOST": "127.0.0.2",
        "HYBRID_LIMITS_INBOX_MAX": "4",
        "HYBRID_NAMESPACES_CHAT_ROOM_HISTORY_SIZE": "500",
        "HYBRID_NAMESPACES_NEWS_SUBSCRIBE": "anyone",
        "HYBRID_ALLOWED_ORIGINS": "https://a.example, https://b.example",
        "HYBRID_HANDOFF": "no",
        "HYBRID_URL": "http://elsewhere",
        "UNRELATED": "1",
    }
    settings = read(tmp_path, "port = 1\n" + text, environ, port=9001)
    assert (settings.port, settings.host, settings.handoff) == (9001, "127.0.0.2", False)
    assert settings.limits.inbox_max == 4
    assert settings.namespaces["chat-room"].history_size == 500
    assert settings.namespaces["news"].subscribe == "anyone"
    assert settings.allowed_origins == ("https://a.example", "https://b.example")


def test_issuers_from_the_environment(tmp_path: Path) -> None:
    settings = read(tmp_path, "", {"HYBRID_ISSUERS": "https://a.example,https://b.example"})
    assert [issuer.url for issuer in settings.issuers] == ["https://a.example", "https://b.example"]


def test_the_file_is_found_by_variable_and_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hybrid.toml").write_text("port = 7001\n" + ISSUER)
    (tmp_path / "other.toml").write_text("port = 7002\n" + ISSUER)
    monkeypatch.chdir(tmp_path)
    assert load(environ={}).port == 7001
    assert load(environ={"HYBRID_SETTINGS": "other.toml"}).port == 7002
    assert load("hybrid.toml", environ={"HYBRID_SETTINGS": "other.toml"}).port == 7001


@pytest.mark.parametrize(
    ("text", "named", "accepted"),
    [
        ("prot = 1", "prot is not a setting", "Did you mean port?"),
        ("zzz = 1", "zzz is not a setting", "Accepted are: host, port"),
        ('port = "9000"', "port", "whole number"),
        ("port = true", "port", "whole number"),
        ("port = 70000", "port", "between 0 and 65535"),
        ("host = 3", "host", "text"),
        ('host = ""', "host", "127.0.0.1"),
        ("handoff = 1", "handoff", "true or false"),
        ('loop = "trio"', "loop", '"auto", "uvloop" or "asyncio"'),
        ('log_level = "loud"', "log_level", '"debug"'),
        ('allowed_origins = "https://a.example"', "allowed_origins", "list of texts"),
        ("allowed_origins = [1]", "allowed_origins", "list of texts"),
        ('allowed_origins = ["*"]', "allowed_origins", "never '*'"),
        ('allowed_origins = ["https://a.example/"]', "allowed_origins", "without a path"),
        ('allowed_origins = ["null"]', "allowed_origins", "scheme://host"),
        ('allowed_hosts = ["*"]', "allowed_hosts", "host:* for any port"),
        ('allowed_hosts = [":*"]', "allowed_hosts", "host:* for any port"),
        ('allowed_hosts = ["a.example/x"]', "allowed_hosts", "host:port"),
        ('broker = "redis://localhost"', "broker", "openssl rand"),
        ('broker = "kafka://:hunter2@localhost"', "broker", '"memory:"'),
        ('broker = "redis:localhost"', "broker", '"redis+cluster"'),
        ('secret = "short"', "secret", "at least 32"),
        ("workers = 0", "workers", "1 or more"),
        ("workers = 2", "workers", "needs Redis"),
        ('key_prefix = "a:b"', "key_prefix", "letters"),
        ('trusted_proxies = ["10.0.0.1/8"]', "trusted_proxies", "10.0.0.0/8"),
        ('trusted_proxies = ["nginx"]', "trusted_proxies", "network"),
        ('public_url = "live.example.com"', "public_url", "absolute http or https URL"),
        ('public_url = "https://u@live.example.com"', "public_url", "absolute"),
        ('public_url = "https://live.example.com:x"', "public_url", "absolute"),
        ("limits = 3", "limits", "must be a table"),
        ("[limits]\ninbox = 3", "limits.inbox is not a setting", "limits.inbox_max"),
        ("[limits]\ninbox_max = 1.5", "limits.inbox_max", "whole number"),
        ("[limits]\ninbox_max = 0", "limits.inbox_max", "positive"),
        ("[limits]\nauth_timeout_s = -1.0", "limits.auth_timeout_s", "positive"),
        ("[limits]\nauth_timeout_s = inf", "limits.auth_timeout_s", "a number"),
        ("[limits]\nauth_timeout_s = nan", "limits.auth_timeout_s", "a number"),
        ("[limits]\nlag_resume_s = 0.5", "limits.lag_resume_s (0.5)", "less than limits.lag_max_s"),
        ("[limits]\nbodies_max_bytes = 9000000", "limits.bodies_per_address_max_bytes", "at most limits.bodies_max"),
        ("[limits]\nbody_max_bytes = 20000000", "limits.body_max_bytes", "at most limits.bodies_per_address_max"),
        ("[limits]\nhigh_water_bytes = 300000000", "limits.high_water_bytes", "at most limits.buffered_max_bytes"),
        ("[limits]\ncommands_per_s = 0", "limits.commands_per_s", "positive"),
        ("[namespaces.chat]\npublishes_per_s = 0", "namespaces.chat.publishes_per_s", "positive"),
        ("[namespaces.chat]\npublishes_per_s = -1.5", "namespaces.chat.publishes_per_s", "positive"),
        ("[limits]\naccepts_per_s = 1001", "limits.accepts_per_s", "at most limits.admissions_per_s"),
        ("[limits]\nlow_water_bytes = 65536", "limits.low_water_bytes", "less than limits.high_water_bytes"),
        ("[limits]\ndata_max_bytes = 70000", "limits.data_max_bytes", "less than limits.command_max_bytes"),
        ("[limits]\nworker_silence_s = 2.9", "worker_silence_s", "at least 3"),
        ("[limits]\nheartbeat_grace_intervals = 1.0", "heartbeat_grace_intervals", "more than 1"),
        ("namespaces = 3", "namespaces", "must be a table"),
        ("[namespaces]\nchat = 3", "namespaces.chat", "must be a table"),
        ("[namespaces.chat]\nhistory = 3", "namespaces.chat.history", "Did you mean namespaces.chat.history_"),
        ("[namespaces.chat]\nname = 'x'", "namespaces.chat.name is not a setting", "Accepted"),
        ("[namespaces.chat]\nhistory_size = -1", "namespaces.chat.history_size", "0 or more"),
        ("[namespaces.chat]\nhistory_ttl_s = 0", "namespaces.chat.history_ttl_s", "positive"),
        ("[namespaces.chat]\ndata_max_bytes = 0", "namespaces.chat.data_max_bytes", "positive"),
        ("[namespaces.chat]\ndata_max_bytes = 65537", "namespaces.chat.data_max_bytes", "limits.data_max_bytes"),
        ("[namespaces.chat]\nsubscribe = 'all'", "namespaces.chat.subscribe", '"scope", "token", "anyone" or "hook"'),
        ("[namespaces.chat]\non_lag = 'wait'", "namespaces.chat.on_lag", '"reset" or "close"'),
        ("[namespaces.chat]\npublish = 'anyone'", "namespaces.chat.publish", "allow_anonymous_publish = true"),
        ("[namespaces.chat]\nallow_anonymous_publish = true", "allow_anonymous_publish", 'publish = "anyone"'),
        ("[namespaces.chat]\njoin_leave = true", "namespaces.chat.join_leave", "presence = true"),
        ("[namespaces.'a b']\npresence = true", "namespaces.a b", "letters, digits"),
        ("issuers = 'https://id.example.com'", "issuers", "[[issuers]]"),
        ("issuers = ['https://id.example.com']", "issuers", "[[issuers]]"),
        ("[[issuers]]\naudience = 'x'", "issuers", "needs a url"),
        ("[[issuers]]\nurl = 'http://id.example.com'", "issuers.url", "https"),
        ("[[issuers]]\nurl = 'https://i.example'\njwks_url = 'http://k.example'", "issuers.jwks_url", "https"),
        ("[[issuers]]\nurl = 'https://i.example'\nalgorithms = ['none']", "issuers.algorithms", "ES256"),
        ("[[issuers]]\nurl = 'https://i.example'\nalgorithms = ['HS256']", "issuers.algorithms", "ES256"),
        ("[[issuers]]\nurl = 'https://i.example'\nalgorithms = []", "issuers.algorithms", "at least one"),
        ("[[issuers]]\nurl = 'https://i.example'\nkeys = 'x'", "issuers.keys", "Accepted are"),
        ("development_issuer = true\nhost = '0.0.0.0'", "development_issuer", "allow_public_development_issuer"),
    ],
)
def test_a_refusal_names_the_key_and_what_is_accepted(tmp_path: Path, text: str, named: str, accepted: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text + "\n")
    sentence = str(caught.value)
    assert named in sentence
    assert accepted in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"HYBRID_PROT": "1"}, "HYBRID_PROT"),
        ({"HYBRID_LIMITS_NOTHING": "1"}, "HYBRID_LIMITS_NOTHING"),
        ({"HYBRID_NAMESPACES_CHAT_NOTHING": "1"}, "HYBRID_NAMESPACES_CHAT_NOTHING"),
        ({"HYBRID_PORT": "many"}, "HYBRID_PORT"),
        ({"HYBRID_HANDOFF": "perhaps"}, "HYBRID_HANDOFF"),
        ({"HYBRID_LIMITS_INBOX_MAX": "-1"}, "limits.inbox_max"),
        ({"HYBRID_NAMESPACES_CHAT_HISTORY_SIZE": "1.5"}, "HYBRID_NAMESPACES_CHAT_HISTORY_SIZE"),
        ({"HYBRID_LOOP": "trio"}, "HYBRID_LOOP"),
    ],
)
def test_a_variable_that_is_not_understood_is_named(tmp_path: Path, environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        read(tmp_path, ISSUER, environ)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load(str(tmp_path / "missing.toml"), {})
    with pytest.raises(SettingsError, match="cannot be read"):
        load(str(tmp_path), {})
    (tmp_path / "bad.toml").write_text("port =")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load(str(tmp_path / "bad.toml"), {})
    (tmp_path / "latin.toml").write_bytes(b"host = '\xe9'")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load(str(tmp_path / "latin.toml"), {})


def test_no_issuer_at_all_is_refused_unless_it_may_be_filled_in(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"No issuer is configured.*\[\[issuers\]\]"):
        read(tmp_path, "")
    path = str(tmp_path / "hybrid.toml")
    assert load(path, {}, fill_in_issuer=True).development_issuer
    with pytest.raises(SettingsError, match="No issuer"):
        load(path, {}, {"host": "0.0.0.0"}, fill_in_issuer=True)
    with pytest.raises(SettingsError, match="No issuer"):
        load(path, {"HYBRID_DEVELOPMENT_ISSUER": "false"}, fill_in_issuer=True)
    assert not load(path, {"HYBRID_ISSUERS": "https://a.example"}, fill_in_issuer=True).development_issuer


def test_a_public_development_issuer_must_be_spelled_out() -> None:
    with pytest.raises(SettingsError, match="can be reached by others"):
        Settings(host="0.0.0.0", development_issuer=True)
    settings = Settings(host="0.0.0.0", development_issuer=True, allow_public_development_issuer=True)
    assert settings.development_issuer


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "192.168.1.1", "example.com", "localhost.evil")),
    ],
)
def test_what_counts_as_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_namespace_of_a_channel() -> None:
    chat, default = Namespace("chat"), Namespace("default")
    settings = Settings(namespaces={"chat": chat, "default": default})
    assert settings.namespace_for("chat:lobby:1") is chat
    assert settings.namespace_for("chat") is default
    assert settings.namespace_for("other:x") is default
    assert settings.namespace_for(":x") is default
    assert Settings(namespaces={"chat": chat}).namespace_for("other:x") is None
    assert Settings(namespaces={"chat": chat}).namespace_for("chat") is None


def test_at_port_derives_anew_only_what_was_derived() -> None:
    moved = Settings(port=0).at_port(4567)
    assert (moved.port, moved.public_url) == (4567, "http://127.0.0.1:4567")
    assert moved.allowed_hosts == ("127.0.0.1:4567", "localhost:4567", "[::1]:4567")
    spelled = Settings(port=0, public_url="https://live.example.com", allowed_hosts=("live.example.com",)).at_port(4567)
    assert (spelled.public_url, spelled.allowed_hosts) == ("https://live.example.com", ("live.example.com",))
    mixed = Settings(port=0, public_url="https://live.example.com").at_port(4567)
    assert mixed.allowed_hosts[:2] == ("live.example.com", "127.0.0.1:4567")


def test_an_ipv6_address_stands_in_brackets() -> None:
    settings = Settings(host="::1", port=80)
    assert settings.public_url == "http://[::1]:80"
    assert settings.allowed_hosts[0] == "[::1]:80"


def test_the_client_commands_take_their_variables_and_hide_the_token() -> None:
    found = client_environment({"HYBRID_URL": "http://h:1", "HYBRID_TOKEN": " secret \n"})
    assert (found.url, found.token) == ("http://h:1", "secret")
    assert "secret" not in repr(found)
    assert client_environment({}).url == "http://127.0.0.1:8000"


def test_the_page_of_settings_is_fresh_and_complete() -> None:
    page = describe()
    stored = Path(__file__).parents[2] / "docs" / "settings.md"
    assert stored.read_text(encoding="utf-8") == page, "run: python -m hybrid.settings_page > docs/settings.md"
    for item in dataclasses.fields(Limits):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{item.name}` |"))
        if item.name != "ring_max_age_s":
            assert not row.endswith("|  |"), f"{item.name} has no reason beside it"
