"""Nothing but documented errors comes out of any parser, whatever goes in; and no parser is left out."""

from __future__ import annotations

import ast
import random
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hybrid
from tests.fuzz.mutation import make_input, shrunk
from tests.fuzz.targets import TARGETS, Target

EXAMPLES: Final = 120
PACKAGE: Final = Path(hybrid.__file__).parent

DECODERS: Final = {
    *("json.loads", "json.load", "tomllib.load", "tomllib.loads", "jwt.decode", "zlib.decompressobj"),
    *("msgspec.json.Decoder", "msgspec.json.decode", "msgspec.msgpack.Decoder", "msgspec.msgpack.decode"),
    *("HttpRequestParser", "urlsafe_b64decode", "b64decode", "binascii.a2b_base64", "unquote_to_bytes", "unquote"),
    *("parse_qsl", "parse_qs", "urlsplit", "urlparse", "ip_address", "ip_network", "re.compile", "Close.parse"),
    *("parse_extension", "JWKRegistry.import_key"),
}
"""Calls by which a module shows that it reads something."""

TRUSTED: Final = {
    "auth.development.authorization": "the development issuer, on loopback only; its forms are read by Authlib",
    "auth.development.issuer": "the development issuer, on loopback only",
    "auth.development.loopback": "an address of the operator's",
    "client.doubts": "whatever is no such answer, of whichever kind, is none: tests/unit/client/test_doubts.py",
    "client.in_process": "addresses that the client has made itself",
    "embed.asgi": "an address of the operator's",
    "embed.channel": "publications that this process has encoded",
    "engine.orders": "sealed with the nodes' secret; what cannot be read is logged: tests/unit/engine/test_orders.py",
    "hooks.backend": "the operator's backend; no answer whatever it says: tests/scenario/test_hooks.py",
    "hooks.signature": "secrets of the operator's settings",
    "logs": "patterns of its own",
    "settings.hooks": "secrets and addresses of the operator's settings",
    "specifications.document": "documents that it has encoded",
    "transports.management": "bodies, by one decoder for all: tests/security/test_management.py, and schemathesis",
    "top.ask": "what a server of the operator's says; an answer of any kind is told: tests/unit/top/test_ask.py",
    "top.terminal": "keys of whoever sits at it",
    "web.metrics.readers": "a Host that is no address is none",
    "web.metrics.routes": "what its own workers say, over a socket in a directory of theirs",
    "bench.coordinator": "what its own workers say",
    "bench.host": "what the operating system says",
    "bench.publisher": "a measurement: a server that answers nonsense may end it",
    "bench.reading": "a measurement: tests/unit/bench/test_reading.py",
    "bench.worker": "what its own coordinator says",
    "broker.redis.revocations": "sealed with the nodes' secret before anything is decoded",
    "broker.redis.tickets": "sealed with the nodes' secret before anything is decoded",
    "cli.publish": "what its user typed, and one answer that ends the command",
    "cli.revoke": "one answer that ends the command",
    "cli.server": "one answer that ends the command",
    "client.credentials": "the user's own URL",
    "client.doctor.longpoll": "an examination: what cannot be read is a finding",
    "client.doctor.server": "an examination: what cannot be read is a finding",
    "client.endpoint": "the user's own URL",
    "engine.calls": "results that the nodes stored themselves",
    "engine.router": "replies of nodes, sealed with their secret",
    "links.front": "what `recognise` has let through; `unquote` takes any text",
    "links.hypercorn_requests": "what a server has parsed; `unquote` takes any text",
    "protocol.publications": "data that was checked when it was published",
    "web.issuer.browser": "the development issuer, on loopback only",
    "web.issuer.pages": "the development issuer, on loopback only",
    "web.issuer.routes": "the development issuer, on loopback only",
    "web.issuers": "the operator's own URLs",
}
"""Modules that decode and need no fuzzing of their own, each with its reason."""


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _decoding(tree: ast.Module) -> set[str]:
    called = {_name(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {name for name in DECODERS if any(call == name or call.endswith(f".{name}") for call in called)}


def _modules() -> dict[str, set[str]]:
    """Every module of the package that decodes something, and by what."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if decoding := _decoding(ast.parse(path.read_text(encoding="utf-8"))):
            parts = path.relative_to(PACKAGE).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = decoding
    return found


def test_every_module_that_decodes_is_fuzzed_or_says_why_not() -> None:
    fuzzed = {name for target in TARGETS for name in target.modules}
    missing = {name: how for name, how in _modules().items() if name not in fuzzed | TRUSTED.keys()}
    assert not missing, "fuzz these (tests/fuzz/targets.py), or say why they need no fuzzing (TRUSTED)"
    assert not fuzzed & TRUSTED.keys()
    assert TRUSTED.keys() <= _modules().keys(), "these decode nothing any more"
    for name in fuzzed:
        assert (PACKAGE / Path(*name.split(".")).with_suffix(".py")).exists(), f"there is no {name}"


def test_a_new_parser_would_be_noticed() -> None:
    assert _decoding(ast.parse("import json\ndef f(raw):\n    return json.loads(raw)")) == {"json.loads"}
    assert _decoding(ast.parse("import msgspec\nd = msgspec.json.Decoder(int).decode")) == {"msgspec.json.Decoder"}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_seeds_are_read(target: Target) -> None:
    """At least one of each without a complaint: or else only the first check of each parser would be fuzzed."""

    def is_read(seed: bytes) -> bool:
        try:
            target.run(seed)
        except target.raises:
            return False
        return True

    if target.name not in ("ticket", "plain event stream", "answer to a plain poll"):  # which end with an error always
        assert any(map(is_read, target.seeds))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_but_documented_errors_comes_out(target: Target) -> None:
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
    @given(st.randoms(use_true_random=False))
    def check(dice: random.Random) -> None:
        raw = make_input(dice, target.seeds)
        fault = target.fault(raw)
        if fault is not None:
            less = shrunk(raw, lambda other: type(target.fault(other)) is type(fault))
            raise AssertionError(f"{target.name}: {type(fault).__name__}: {fault} for {less[:200]!r}") from fault

    check()


def test_a_fault_is_found_and_made_small() -> None:
    target = Target("broken", lambda raw: raw.index(b"\\"), (b"a\\b",), (), ())
    dice = random.Random(1)
    raw = next(raw for raw in (make_input(dice, target.seeds) for _ in range(100)) if target.fault(raw))
    assert isinstance(target.fault(raw), ValueError)
    assert shrunk(raw, lambda other: isinstance(target.fault(other), ValueError)) == b""
