"""One table of routes: the dispatcher has each of them and no other, and so have the documents."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid.errors import TABLE, ProtocolError
from hybrid.protocol.routes import ROUTES
from hybrid.protocol.routes.shapes import CREDENTIALS, Answer, Route
from hybrid.settings import Namespace
from hybrid.specifications import openapi_document
from hybrid.transports.routing import Routing
from tests.support.bytewise import JSON, call
from tests.support.server import running_server, settings_for

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def route(operation: str, method: str, path: str, *, has_head: bool = False) -> Route:
    answers = (Answer(meaning="Something."),)
    return Route(
        operation=operation, method=method, path=path, group="", summary="", answers=answers, has_head=has_head
    )


async def handler(*arguments: Any) -> None:
    raise AssertionError("never called")


async def other_handler(*arguments: Any) -> None:
    raise AssertionError("never called")


TABLE_OF_THREE = (
    route("all", "GET", "/v1/things", has_head=True),
    route("one", "GET", "/v1/things/{thing}", has_head=True),
    route("make", "POST", "/v1/things/{thing}"),
    route("part", "POST", "/v1/things/{thing}/parts/{part}"),
    route("end", "DELETE", "/v1/things/{thing}"),
)


def routing() -> Routing:
    named = {one.operation: handler for one in TABLE_OF_THREE}
    return Routing(b"/v1/", TABLE_OF_THREE, {**named, "part": other_handler})


@pytest.mark.parametrize(
    ("method", "path", "segments"),
    [
        ("GET", b"/v1/things", ()),
        ("HEAD", b"/v1/things", ()),
        ("GET", b"/v1/things/a%2Fb", (b"a%2Fb",)),
        ("HEAD", b"/v1/things/a", (b"a",)),
        ("POST", b"/v1/things/a", (b"a",)),
        ("DELETE", b"/v1/things/a", (b"a",)),
        ("GET", b"/v1/things/", (b"",)),
        ("GET", b"/v1/things/a/b", (b"a/b",)),
    ],
)
def test_a_request_finds_its_handler(method: str, path: bytes, segments: tuple[bytes, ...]) -> None:
    assert routing().find(method, path) == (handler, segments)


def test_a_path_with_two_names_is_compared_by_its_segments() -> None:
    assert routing().find("POST", b"/v1/things/a/parts/b") == (other_handler, (b"a", b"b"))


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("POST", b"/v1/things", "This path answers GET only."),
        ("PUT", b"/v1/things/a", "This path answers GET and POST and DELETE only."),
        ("HEAD", b"/v1/things/a/parts/b", "This path answers POST only."),
        ("GET", b"/v1/thing", "There is nothing here."),
        ("GET", b"/v1/", "There is nothing here."),
        ("GET", b"/v1/things2/a", "There is nothing here."),
    ],
)
def test_what_is_not_in_the_table_is_not_found(method: str, path: bytes, detail: str) -> None:
    with pytest.raises(ProtocolError, match="^" + detail.replace(".", r"\.")) as caught:
        routing().find(method, path)
    assert caught.value.row.name == "not_found"


@pytest.mark.parametrize(
    "handlers",
    [
        {"all": handler},
        {**{one.operation: handler for one in TABLE_OF_THREE}, "more": handler},
    ],
)
def test_a_route_without_a_handler_or_a_handler_without_a_route_is_refused(handlers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="routes and handlers differ"):
        Routing(b"/v1/", TABLE_OF_THREE, handlers)


def test_an_operation_that_stands_twice_is_refused() -> None:
    twice = (*TABLE_OF_THREE, route("all", "POST", "/v1/other"))
    with pytest.raises(ValueError, match="routes and handlers differ"):
        Routing(b"/v1/", twice, {one.operation: handler for one in twice})


@pytest.mark.parametrize("one", ROUTES, ids=lambda one: one.operation)
def test_a_route_says_what_it_has_to(one: Route) -> None:
    assert one.path.startswith("/v1/")
    assert one.credential in CREDENTIALS
    assert set(one.all_errors) <= set(TABLE)
    assert one.method != "POST" or one.repeats, "say what happens when it comes twice"
    named = {segment.strip("{}") for segment in one.segments if segment.startswith("{")}
    assert named == {parameter.name for parameter in one.parameters if parameter.place == "path"}


def operations() -> set[tuple[str, str]]:
    heads = {("HEAD", one.path) for one in ROUTES if one.has_head}
    return {(one.method, one.path) for one in ROUTES} | heads


def test_the_document_has_every_route_and_no_other() -> None:
    paths = openapi_document().value["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == operations()


def filled(one: Route) -> str:
    path = one.path
    for parameter in one.parameters:
        if parameter.place == "path":
            path = path.replace(f"{{{parameter.name}}}", str(parameter.example))
    return path


async def test_the_server_answers_every_route_and_no_other() -> None:
    namespaces = {"default": Namespace("default"), "chat": Namespace("chat", presence=True)}
    async with running_server(settings_for(namespaces=namespaces)) as server:
        headers = {**server.bearer(), **JSON}
        for path, filled_in in sorted({one.path: filled(one) for one in ROUTES}.items()):
            for method in METHODS:
                answer = await call(server, method, filled_in, headers, b"{}" if method == "POST" else b"")
                assert (answer.status != 404) == ((method, path) in operations()), (method, path, answer)
