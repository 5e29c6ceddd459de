"""The documents are valid by the judgement of others, complete, and those that stand in `docs/` are of this code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from hybrid.errors import TABLE
from hybrid.hooks import messages
from hybrid.protocol import commands, management, pushes, requests
from hybrid.protocol.codec import JSON
from hybrid.protocol.commands import AnyCommand
from hybrid.protocol.pushes import Push
from hybrid.protocol.routes import ROUTES
from hybrid.specifications import asyncapi_document, openapi_document, schema_file
from hybrid.specifications.__main__ import files, main
from hybrid.specifications.examples import COMMANDS, PUSHES
from hybrid.specifications.schemas import FILES
from tests.support.nodes import ROOT
from tests.support.specified import answer_validator, validator

DOCS = ROOT / "docs"
ASYNCAPI = ROOT / "tests" / "foreign" / "asyncapi" / "node_modules" / "@asyncapi" / "specs" / "schemas"


def asyncapi_faults(document: dict[str, Any]) -> list[str]:
    """What AsyncAPI's own schema finds."""
    path = ASYNCAPI / f"{document['asyncapi']}-without-$id.json"
    if not path.exists():
        pytest.skip("needs asyncapi, which was not found: `make asyncapi` installs it with npm")
    schema = jsonschema_rs.Draft7Validator(json.loads(path.read_text()))
    return [error.message for error in schema.iter_errors(document)]


def test_the_openapi_document_is_valid() -> None:
    assert list(OpenAPIV31SpecValidator(openapi_document().value).iter_errors()) == []


def test_the_validator_of_openapi_would_notice() -> None:
    broken = json.loads(openapi_document().body)
    del broken["paths"]["/v1/ping"]["get"]["responses"]["200"]["description"]
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def test_the_asyncapi_document_is_valid() -> None:
    assert asyncapi_faults(asyncapi_document().value) == []


def test_the_schema_of_asyncapi_would_notice() -> None:
    broken = json.loads(asyncapi_document().body)
    broken["operations"]["sendSession"]["action"] = "publish"
    assert asyncapi_faults(broken)


@pytest.mark.parametrize("name", FILES)
def test_each_schema_is_one(name: str) -> None:
    document = schema_file(f"{name}.json")
    assert document is not None
    jsonschema_rs.meta.validate(document.value)
    assert document.value["$id"] == f"urn:hybrid:v1:{name}"
    assert "discriminator" not in document.body.decode()


def test_what_is_no_schema_is_none() -> None:
    assert [schema_file(name) for name in ("push", "", ".json", "other.json", "push.json.json")] == [None] * 5


def test_the_files_in_docs_are_of_this_code() -> None:
    texts = files()
    for name, text in texts.items():
        assert (DOCS / name).read_text() == text, f"{name} is stale: python -m hybrid.specifications docs"
    assert {f"schemas/{path.name}" for path in (DOCS / "schemas").iterdir()} <= set(texts)


def test_writing_takes_away_what_is_no_more(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "old.json").write_text("{}")
    main(tmp_path)
    assert not (tmp_path / "schemas" / "old.json").exists()
    assert json.loads((tmp_path / "schemas" / "push.json").read_text())["$id"] == "urn:hybrid:v1:push"


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


@pytest.mark.parametrize("document", [openapi_document, asyncapi_document])
def test_every_reference_leads_somewhere(document: Any) -> None:
    value = document().value
    for reference in set(references(value)):
        found = value
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_every_command_and_every_push_is_a_message_with_examples() -> None:
    methods = {kind.__struct_config__.tag for kind in get_args(AnyCommand)}
    names = {name for name in Push.__struct_fields__ if name != "seq"}
    assert set(COMMANDS) == methods
    assert set(PUSHES) == names
    value = asyncapi_document().value
    assert methods | {f"{name}Push" for name in names} <= set(value["components"]["messages"])
    used = {reference.rsplit("/", 1)[1] for reference in references(value["channels"])}
    assert set(value["components"]["messages"]) <= used
    for message in value["components"]["messages"].values():
        schema = jsonschema_rs.Draft202012Validator({**message["payload"], "components": value["components"]})
        assert message["examples"]
        for example in message["examples"]:
            assert [error.message for error in schema.iter_errors(example["payload"])] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_is_taken(name: str) -> None:
    assert validator("command").is_valid(COMMANDS[name])
    command = JSON.decode_command(json.dumps(COMMANDS[name]).encode(), 100_000)
    assert command.__struct_config__.tag == name


@pytest.mark.parametrize("name", PUSHES)
def test_the_example_of_a_push_is_what_is_written(name: str) -> None:
    for example in PUSHES[name]:
        assert validator("push").is_valid(example)
        assert json.loads(JSON.encode_push(JSON.decode_push(json.dumps(example).encode()))) == example


def test_the_examples_of_routes_fit_their_schemas() -> None:
    for route in ROUTES:
        for answer in route.answers:
            for content in answer.contents:
                known = answer_validator(route.path, route.method, answer.status, content.media_type)
                if content.example is not None and known is not None:
                    assert known.is_valid(content.example), (route.operation, content)


@pytest.mark.parametrize(
    "push",
    [
        {},
        {"seq": 1},
        {"greeting": {}},
        {"publication": {"channel": "a"}},
        {"heartbeat": {"at_ms": 1}, "expiring": {"in_s": 1}},
        {"reset": {"channel": "a", "position": {"offset": 1}}},
        {"reset": {"channel": "a", "position": {"offset": 0, "epoch": "k3f9", "tag": "9c1d07aa"}}},
    ],
)
def test_an_unknown_push_or_one_that_is_two_fits_none(push: Any) -> None:
    assert not validator("push", is_strict=False).is_valid(push)


@pytest.mark.parametrize(
    "command",
    [
        {},
        {"method": "shout"},
        {"method": "publish", "channel": "a"},
        {"method": "publish", "channel": "a*", "data": 1},
        {"method": "subscribe", "channel": ".."},
        {"method": "heartbeat", "echo": -1},
        {"method": "publish", "channel": "a", "data": 1, "type": "a b"},
    ],
)
def test_an_unknown_command_or_a_malformed_one_fits_none(command: Any) -> None:
    assert not validator("command", is_strict=False).is_valid(command)


def test_a_field_that_is_not_known_is_no_fault_but_one_of_ours_would_be() -> None:
    push = {"heartbeat": {"at_ms": 1, "more": True}}
    assert validator("push", is_strict=False).is_valid(push)
    assert not validator("push").is_valid(push)


@pytest.mark.parametrize(
    ("name", "fits", "misfits"),
    [
        ("revoke-request", {"subject": "a"}, {"subject": "a", "client": "b"}),
        ("revoke-request", {"jti": "a", "issuer": "b"}, {"issuer": "b"}),
        ("revoke-request", {"sid": "a", "client": None}, {"sid": "a", "other": 1}),
        ("ticket-request", {"purpose": "channels", "channels": ["a"]}, {"purpose": "channels", "channels": []}),
        ("ticket-request", {"purpose": "session", "attach": COMMANDS["attach"]}, {"purpose": "session"}),
        ("ticket-request", {"purpose": "session", "attach": COMMANDS["attach"]}, {"purpose": "all"}),
        ("batch", {"publications": [{"channel": "a", "data": None}]}, {"publications": [{"channel": "a"}]}),
        ("stream-request", COMMANDS["poll"], COMMANDS["publish"]),
        ("command-post", {"commands": [COMMANDS["publish"]]}, {"commands": [{"method": "shout"}]}),
    ],
)
def test_bodies(name: str, fits: Any, misfits: Any) -> None:
    assert validator(name, is_strict=False).is_valid(fits)
    assert not validator(name, is_strict=False).is_valid(misfits)


def test_every_struct_of_the_wire_is_published() -> None:
    """A message that is added to the protocol is in the documents, or this says so."""
    kinds = {
        value.__name__
        for module in (commands, management, messages, pushes, requests)
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "__struct_fields__")
    }
    published = set(openapi_document().value["components"]["schemas"])
    published |= set(asyncapi_document().value["components"]["schemas"])
    # What others share, and a batch before its items are decoded.
    assert kinds - published == {"Command", "Reached", "Batch"}


def test_every_error_of_http_is_told_by_some_route() -> None:
    told = {name for route in ROUTES for name in route.all_errors}
    assert told <= set(TABLE)
    # In frames and replies only: what ends a leg, and what answers a command.
    assert set(TABLE) - told == {
        *("out_of_order", "not_subscribed", "unsubscribed", "auth_timeout", "heartbeat_timeout", "candidate_timeout"),
        *("rotated", "protocol_error", "principal_changed"),
    }
