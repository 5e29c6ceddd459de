"""Every block of every page is run, read by what it is for, or says why not (see snippets.py)."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybrid.settings import load
from tests.docs.snippets import PAGES, Block, blocks_of
from tests.docs.terminals import Terminals, terminals
from tests.support.nodes import ROOT, SECRET
from tests.support.processes import program

RUN_BY = {
    "docs/http-api.md": {"sh json": "tests/specifications/test_page.py"},
    "docs/server-api.md": {"sh json": "tests/docs/test_server_api.py"},
    "docs/development-issuer.md": {"sh python": "tests/docs/test_development_issuer.py"},
    "docs/iot.md": {"sh micropython": "tests/docs/test_iot.py"},
    "docs/embedding.md": {"python": "tests/docs/test_embedding.py"},
    "docs/python-client.md": {"python": "tests/docs/test_python_client.py"},
    "docs/authentication.md": {"python json toml": "tests/docs/test_authentication.py"},
    "docs/webhooks.md": {"python js php json toml": "tests/docs/test_webhooks.py"},
    "docs/redis.md": {"acl": "tests/contract/test_redis.py"},
    "README.md": {"python": "tests/docs/test_embedding.py"},
}
"""Pages with a test of their own, and the languages of the blocks that it runs."""
NOT_RUN_MAX = 10
"""How many blocks say that they cannot be run. One more is a decision."""
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELL = {"sh", "bash", "console"}


def ids(block: Block) -> str:
    return block.place


def own_test(block: Block) -> str:
    """The test that runs a block elsewhere; empty for none."""
    if block.run_by or block.why_not or block.is_marked:
        return block.run_by
    rows = RUN_BY.get(block.page.relative_to(ROOT).as_posix() if block.page.is_relative_to(ROOT) else "", {})
    return next((test for languages, test in rows.items() if block.language in languages.split()), "")


def is_read_here(block: Block) -> bool:
    return block.is_run_here and not own_test(block)


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages and is_read_here(block)]


def test_every_block_is_run_or_read_or_says_why_not() -> None:
    kinds = SHELL | {"toml", "json", "yaml", "nginx", "js", "html", ""}
    left = [block.place for block in BLOCKS if is_read_here(block) and block.language not in kinds]
    assert left == [], "no test reads these: mark them as tests/docs/snippets.py says"
    assert len(BLOCKS) > 150


def test_blocks_that_are_run_elsewhere_are() -> None:
    for block in BLOCKS:
        if test := own_test(block):
            source = (ROOT / test).read_text()
            folder, program = block.page.parent.name, block.text.split()[0]
            told = (block.page.name, f"{folder}/", program, "describe()")
            assert any(words in source for words in told), f"{block.place}: {test} does not name it"


def test_no_block_is_indented_only() -> None:
    """Such a one would be shown as code and be seen by no test."""
    for page in PAGES:
        outside = re.sub(r"^([ ]*)(```+).*?^[ ]*\2[ ]*$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        assert re.findall(r"(?<=\n\n)    (?![-*0-9]).*", outside) == [], page


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [f"{block.place}: {block.why_not}" for block in BLOCKS if block.why_not]
    assert len(left_out) <= NOT_RUN_MAX, "\n".join(left_out)
    assert all(len(reason.partition(": ")[2]) > 10 for reason in left_out)


def test_a_marker_that_is_not_understood_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- test: sasy hello -->\n```sh\necho hello\n```\n")
    with pytest.raises(ValueError, match="not understood"):
        blocks_of(page)


PAGE = """<!-- test: file greeting -->
```text
hello
```

<!-- test: says "hello" -->
```sh
cat greeting
```
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", None),
        ("cat greeting", "cat elsewhere", "failed"),
        ("cat greeting", "cat greeting\nfalse", "failed"),
        ("cat greeting", "sleep 60 &\nfalse", "failed"),
        ("cat greeting", "false | cat greeting && exit 3", "failed"),
        ('says "hello"', 'says "good night"', "is not in"),
    ],
)
async def test_what_does_not_hold_fails(tmp_path: Path, old: str, new: str, message: str | None) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace(old, new) if old else PAGE)
    (folder := tmp_path / "folder").mkdir()
    if message is None:
        await follow(page, folder, slow=False)
        return
    with pytest.raises(AssertionError, match=message):
        await follow(page, folder, slow=False)


async def test_what_runs_on_has_to_say_what_the_page_promises(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('<!-- test: runs on; says "two" -->\n```sh\necho one; exec sleep 0\n```\n')
    (folder := tmp_path / "folder").mkdir()
    with pytest.raises(RuntimeError, match="ended before it was heard to say 'two'"):
        await follow(page, folder, slow=False)


# -- what is not a command


@pytest.mark.parametrize("block", of("toml"), ids=ids)
def test_settings_are_settings(block: Block, tmp_path: Path) -> None:
    tomllib.loads(block.text)
    path = tmp_path / "hybrid.toml"
    given = "" if "[[issuers]]" in block.text else 'issuers = [{ url = "https://id.example.com" }]\n'
    given += "" if "public_url" in block.text else 'public_url = "https://live.example.com"\n'
    path.write_text(given + block.text)
    assert load(str(path), {"HYBRID_SECRET": SECRET})


@pytest.mark.parametrize("block", of("json"), ids=ids)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


class _Loader(yaml.SafeLoader):
    """Home Assistant's `!secret` is a text."""


_Loader.add_constructor("!secret", lambda loader, node: loader.construct_scalar(node))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("block", of("yaml"), ids=ids)
def test_yaml_is_yaml(block: Block) -> None:
    assert yaml.load(block.text, _Loader)


def is_nginx(fragment: str, folder: Path) -> bool:
    """Whether nginx takes this inside of a server."""
    server = f"server {{ listen 127.0.0.1:1; {fragment} }}"
    http = f"http {{ access_log off; upstream hybrid_any {{ server 127.0.0.1:1; }} {server} }}"
    (folder / "nginx.conf").write_text(f"pid {folder}/pid; error_log stderr; events {{}} {http}")
    command = [program("nginx"), "-t", "-q", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_parts_of_nginx_conf_are_what_nginx_takes(tmp_path: Path) -> None:
    assert is_nginx("location /v1 { proxy_pass http://hybrid_any; }", tmp_path)
    assert not is_nginx("location /v1 { proxy_pass http://elsewhere; }", tmp_path)
    for block in of("nginx"):
        assert is_nginx(block.text, tmp_path), block.place


# -- commands


def commands(*, slow: bool) -> list[Any]:
    """The pages with commands; those of a page are run in their order, by one person."""
    wanted = Counter(block.page for block in of(*SHELL) if slow or not block.is_slow)
    pages = [page for page in wanted if not slow or any(block.is_slow for block in of(*SHELL) if block.page == page)]
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


async def follow(page: Path, folder: Path, *, slow: bool) -> None:
    blocks = blocks_of(page)
    async with terminals(folder, slow and any("pip install ." in block.text for block in blocks)) as opened:
        for block in blocks:
            if block.file:
                save(opened, block)
            elif block.language in SHELL and is_read_here(block) and (slow or not block.is_slow):
                await give(opened, block)
                await opened.follow(block)


def save(opened: Terminals, block: Block) -> None:
    """What the reader saves in an editor."""
    with open(opened.folder / block.file, "a" if block.appends else "w") as file:
        file.write(opened.here(("\n\n" if block.appends else "") + block.text))


async def give(opened: Terminals, block: Block) -> None:
    """What the reader has when a page begins here."""
    if "settings file" in block.given:
        (opened.folder / "hybrid.toml").write_text(
            'public_url = "https://live.example.com"\nissuers = [{ url = "https://id.example.com" }]\n'
        )
    if "server" in block.given and not opened.running:
        await opened.start(f"hybrid serve --settings {empty(opened)}", "http://127.0.0.1:8000")
    if "TOKEN" in block.given and "server" not in block.given:
        await opened._type("TOKEN=eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJhdWQiOiJ4In0.c2ln", block)
    elif "TOKEN" in block.given:
        await opened._type("TOKEN=$(hybrid token)", block)
    if "redis" in block.given or "workers" in block.given:
        broker = opened.here("redis://127.0.0.1:6379/0")
        await opened._type(f"export HYBRID_BROKER={broker} HYBRID_SECRET={SECRET}", block)
        if not opened.running:
            serve = f"hybrid serve --settings {empty(opened)} --workers 2"
            await opened.start(opened.here("redis-server --port 6379 --save ''"), "Ready to accept connections")
            export = f"export HYBRID_BROKER={broker} HYBRID_SECRET={SECRET}\n"
            await opened.start(f'{export}echo $$ > hybrid.pid\n exec "$PYTHON" -m {serve}', "http://127.0.0.1:8000")


def empty(opened: Terminals) -> Path:
    """Settings that say nothing, whatever hybrid.toml says."""
    path = opened.folder / "empty.toml"
    path.write_text("")
    return path


@pytest.mark.parametrize("page", commands(slow=False))
async def test_the_commands_of_a_page(page: Path, tmp_path: Path) -> None:
    await follow(page, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", commands(slow=True))
async def test_all_commands_of_a_page(page: Path, tmp_path: Path) -> None:
    await follow(page, tmp_path, slow=True)
