"""[[issuers]] with all their keys, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybrid.errors import SettingsError
from hybrid.settings import GrantSettings, IssuerSettings, Settings, load

WHOLE = """
[[issuers]]
url = "https://id.example.com"
client_id = "hybrid"
client_secret = "hush"
scope_claim = "scp"

[[issuers.grants]]
subscribe = ["user:{sub}", "org:{org.id}:*"]

[[issuers.grants]]
claim = "realm_access.roles"
value = "editor"
publish = ["news:*"]
revoke = true

[[issuers]]
url = "https://other.example.com"
"""


def read(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "hybrid.toml"
    path.write_text(text)
    return load(str(path), environ)


def test_issuers_are_read_whole(tmp_path: Path) -> None:
    first, second = read(tmp_path, WHOLE).issuers
    assert (first.client_id, first.scope_claim, first.introspection_url) == ("hybrid", "scp", None)
    assert first.grants == (
        GrantSettings(subscribe=("user:{sub}", "org:{org.id}:*")),
        GrantSettings(claim="realm_access.roles", value="editor", publish=("news:*",), revoke=True),
    )
    assert second.grants == ()
    assert "hush" not in repr(first)


def test_the_secret_may_come_from_the_environment(tmp_path: Path) -> None:
    text = WHOLE.replace('client_secret = "hush"\n', "")
    with pytest.raises(SettingsError, match="HYBRID_INTROSPECTION_SECRET"):
        read(tmp_path, text)
    found = read(tmp_path, text, HYBRID_INTROSPECTION_SECRET="hush")
    assert found.introspection_secret == "hush"
    assert "hush" not in repr(found)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('grants = "x"', "must be tables"),
        ("grants = [1]", "must be tables"),
        ('grants = [{subscribe = ["a"], scoop = "b"}]', "scoop is not a setting. Did you mean issuers.grants.scope"),
        ("grants = [{}]", "grants something"),
        ('grants = [{scope = "a", claim = "b", subscribe = ["c"]}]', "give scope or claim"),
        ('grants = [{value = "a", subscribe = ["c"]}]', "value needs claim"),
        ('grants = [{subscribe = ["a*b"]}]', "is no pattern"),
        ('grants = [{subscribe = ["a**"]}]', "is no pattern"),
        ('grants = [{subscribe = [""]}]', "is no pattern"),
        ('grants = [{subscribe = ["user:{sub}*"]}]', "put a separator in between"),
        ('grants = [{publish = ["user:{sub"]}]', "is no pattern"),
        ('grants = [{publish = ["user:{}"]}]', "is no pattern"),
        ("grants = [{publish = [1]}]", "must be a list of texts"),
        ('grants = [{publish = ["a"], revoke = "yes"}]', "must be true or false"),
        ('grants = [{manage = ["everything"]}]', "cannot be managed"),
        ('grants = [{manage = ["channels"]}]', "cannot be managed"),
        ('grants = [{manage = ["purge:a*b"]}]', "cannot be managed"),
        ('grants = [{manage = ["sessions nodes"]}]', "cannot be managed"),
        ('introspection_url = "https://id.example.com/introspect"', "needs client_id"),
        ('client_id = "a"\nclient_secret = "b"\nintrospection_url = "http://id.example.com/i"', "must be https"),
        ('client_secret = "b"', "needs client_id"),
        ('client_id = "a"', "needs client_secret"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, f'[[issuers]]\nurl = "https://id.example.com"\n{text}\n')
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"issuers": (IssuerSettings("https://a.example", client_id="a", client_secret="b"),) * 2}, "only one"),
        ({"issuers": (IssuerSettings("https://a.example"),) * 2}, "two tables"),
        ({"introspection_secret": "x"}, "no effect"),
    ],
)
def test_issuers_that_contradict_each_other(more: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        Settings(**more)
