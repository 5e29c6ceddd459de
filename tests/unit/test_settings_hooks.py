"""`[hooks]`: what is accepted, and the sentence for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.errors import SettingsError
from hybrid.settings import Namespace, load
from tests.support.receiver import OTHER_SECRET, SECRET

ISSUER = "development_issuer = true\n"
GOOD = f'{ISSUER}[hooks]\nurl = "https://app.example.com/hybrid"\nsecrets = ["{SECRET}"]\n'


def loaded(tmp_path: Path, text: str, environ: dict[str, str] | None = None):  # type: ignore[no-untyped-def]
    path = tmp_path / "hybrid.toml"
    path.write_text(text)
    return load(str(path), environ or {})


def test_a_whole_table(tmp_path: Path) -> None:
    text = f"""{GOOD}tell_url = "http://127.0.0.1:9000/told"
connect = true
calls = ["shop.*"]
tell = ["connected", "vacated"]
tell_namespaces = ["chat"]

[namespaces.chat]
subscribe = "hook"
publish = "hook"
"""
    settings = loaded(tmp_path, text)
    assert settings.hooks.told_at == "http://127.0.0.1:9000/told"
    assert settings.namespaces["chat"] == Namespace("chat", subscribe="hook", publish="hook")
    assert SECRET not in repr(settings)


def test_the_environment_says_it_too(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path, GOOD, {"HYBRID_HOOKS_SECRETS": f"{SECRET},{OTHER_SECRET}", "HYBRID_HOOKS_CONNECT": "true"}
    )
    assert settings.hooks.secrets == (SECRET, OTHER_SECRET)
    assert settings.hooks.connect
    assert settings.hooks.told_at == "https://app.example.com/hybrid"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('url = "http://app.example.com/"', "must be https"),
        ('tell_url = "http://10.0.0.1/"', "must be https"),
        ('url = "ftp://app.example.com/"', "absolute http"),
        ('url = "https://user@app.example.com/"', "absolute http"),
        ('secrets = ["whsec_c2hvcnQ="]', "24 to 64 bytes"),
        ("secrets = []", "at least one secret"),
        ('url = ""\nconnect = true', "need hooks.url"),
        ('url = ""\ncalls = ["x"]', "need hooks.url"),
        ('url = ""\ntell = ["connected"]', "needs hooks.tell_url"),
        ('tell = ["born"]', "'born' cannot be told"),
        ('calls = ["a*b"]', "is no name"),
        ('tell_namespaces = ["nowhere"]', "no [namespaces.nowhere]"),
        ('urls = "x"', "Did you mean hooks.url"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, table: str, said: str) -> None:
    lines = dict(line.split(" = ", 1) for line in GOOD.splitlines()[2:])
    lines.update(line.split(" = ", 1) for line in table.splitlines())
    text = ISSUER + "[hooks]\n" + "\n".join(f"{key} = {value}" for key, value in lines.items())
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text)
    assert said in str(caught.value)
    assert "c2hvcnQ" not in str(caught.value)


def test_plain_http_to_another_machine_has_to_be_meant(tmp_path: Path) -> None:
    text = GOOD.replace("https:", "http:") + "allow_insecure = true\n"
    assert loaded(tmp_path, text).hooks.url == "http://app.example.com/hybrid"


def test_a_namespace_that_asks_needs_somebody_to_ask(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"needs hooks\.url"):
        loaded(tmp_path, f'{ISSUER}[namespaces.chat]\nsubscribe = "hook"\n')
