"""What a whole server's spans say, through OpenTelemetry's own SDK; and that nothing of it is loaded otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from hybrid.tracing.transports import route_of
from tests.support.bytewise import EVENTS, JSON, call, connected, event_stream, request, text, until, websocket
from tests.support.server import running_server, settings_for

ON = replace(settings_for(), tracing=True)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
MARKER = "MarkerThatMustNotBeSeen"
_provider = TracerProvider()
_exporter = InMemorySpanExporter()
_provider.add_span_processor(SimpleSpanProcessor(_exporter))


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What was exported; a process has one provider, so this one is put where it is looked for."""
    monkeypatch.setattr(trace, "get_tracer", lambda name, version: _provider.get_tracer(name, version))
    _exporter.clear()
    yield _exporter
    _exporter.clear()


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def one(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    found = named(exporter, name)
    assert len(found) == 1, [span.name for span in exporter.get_finished_spans()]
    return found[0]


async def test_a_publish_is_one_trace_from_the_callers_span_to_the_broker(spans: InMemorySpanExporter) -> None:
    async with running_server(ON) as server:
        headers = {**JSON, **server.bearer(), **TRACEPARENT}
        assert (await call(server, "POST", "/v1/channels/chat:a", headers, b"1")).status == 200
    asked = one(spans, "POST /v1/channels/{channel}")
    publish, append = one(spans, "publish"), one(spans, "broker append")
    assert asked.parent is not None
    assert (f"{asked.context.trace_id:032x}", f"{asked.parent.span_id:016x}") == (TRACE, PARENT)
    assert asked.parent.is_remote
    assert publish.parent == asked.context
    assert append.parent == publish.context
    assert (asked.kind, publish.kind, append.kind) == (SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CLIENT)
    assert asked.attributes is not None
    assert asked.attributes["http.response.status_code"] == 200
    assert asked.attributes["url.path"] == "/v1/channels/chat:a"
    assert asked.attributes["client.address"] == "127.0.0.1"
    assert publish.attributes is not None
    assert publish.attributes["messaging.destination.name"] == "chat:a"
    assert {span.status.status_code for span in (asked, publish, append)} == {StatusCode.UNSET}


async def test_a_refusal_has_its_name_and_is_no_fault_of_ours(spans: InMemorySpanExporter) -> None:
    async with running_server(ON) as server:
        await call(server, "POST", "/v1/channels/a", JSON, b"1")
        await call(server, "POST", f"/v1/{MARKER}/{MARKER}", {**JSON, **server.bearer()}, b"1")
    refused, nothing = one(spans, "POST /v1/channels/{channel}"), one(spans, "POST")
    assert refused.attributes is not None
    assert nothing.attributes is not None
    assert (refused.attributes["http.response.status_code"], refused.attributes["error.type"]) == (401, "unauthorized")
    assert (nothing.attributes["http.response.status_code"], nothing.attributes["error.type"]) == (404, "not_found")
    assert refused.status.status_code is StatusCode.UNSET


async def test_our_own_failure_is_a_fault(spans: InMemorySpanExporter) -> None:
    async with running_server(ON) as server:
        server.engine.leaving.has_begun = True
        await call(server, "GET", "/v1/channels/a", server.bearer())
        server.engine.leaving.has_begun = False
    span = one(spans, "GET /v1/channels/{channel}")
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 503
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "draining")


async def test_streams_and_their_attaches(spans: InMemorySpanExporter) -> None:
    attach = {"method": "attach", "attempt": 3, "confirm": True, "subscriptions": [{"channel": "a"}]}
    body = json.dumps(attach).encode()
    async with running_server(ON) as server:
        async with websocket(server, "/v1/stream", {**server.bearer(), **TRACEPARENT}) as connection:
            connection.send(text(attach))
            assert "attached" in await connection.push()
        async with event_stream(server, "/v1/stream", {**JSON, **server.bearer()}, method="POST", body=body) as stream:
            await stream.event()
            await call(server, "POST", "/v1/stream", {**JSON, **server.bearer()}, body)
        await until(lambda: not len(server.engine.open))
        await until(lambda: len(spans.get_finished_spans()) >= 7)
    attaches = {span.attributes["hybrid.transport"]: span for span in named(spans, "attach") if span.attributes}
    assert attaches.keys() == {"websocket", "sse", "longpoll"}
    assert attaches["websocket"].parent is None, "it comes on the open stream"
    posted = {span.context.span_id for span in named(spans, "POST /v1/stream")}
    assert {attaches[name].parent.span_id for name in ("sse", "longpoll") if attaches[name].parent} == posted
    handshake = one(spans, "GET /v1/stream")
    assert handshake.attributes is not None
    assert handshake.attributes["http.response.status_code"] == 101
    assert f"{handshake.context.trace_id:032x}" == TRACE
    assert one(spans, "broker subscribe").attributes == {"messaging.destination.name": "a"}


async def test_a_traceparent_that_is_none_begins_a_new_trace(spans: InMemorySpanExporter) -> None:
    async with running_server(ON) as server:
        for wrong in ("", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01" * 9, "\xff"):
            async with connected(server) as connection:
                connection.send(request("GET", "/v1/ping", [("traceparent", wrong), ("baggage", "a=" + "b" * 9_000)]))
                assert (await connection.answer()).status == 200
    pings = named(spans, "GET /v1/ping")
    assert len({span.context.trace_id for span in pings}) == len(pings) == 5
    assert TRACE not in {f"{span.context.trace_id:032x}" for span in pings}


async def test_no_credential_stands_in_a_span(spans: InMemorySpanExporter) -> None:
    async with running_server(ON) as server:
        token = server.token()
        wanted = {"purpose": "channels", "channels": ["a"]}
        made = await call(server, "POST", "/v1/ticket", server.bearer(), json.dumps(wanted).encode())
        ticket = made.json()["ticket"]
        async with event_stream(server, f"/v1/channels/a?ticket={ticket}", EVENTS):
            pass
        await call(server, "GET", f"/v1/channels/a?access_token={token}", {"Cookie": f"session={MARKER}"})
        await call(server, "GET", "/v1/channels/a", {"Authorization": f"Bearer {token}x"})
        await until(lambda: not len(server.engine.open))
    everything = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "GET /v1/channels/{channel}" in everything
    for secret in (ticket, token[-24:], MARKER):
        assert secret not in everything


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/stream", "/v1/stream"),
        ("/v1/channels/a/b", "/v1/channels/{channel}"),
        ("/v1/history/a", "/v1/history/{channel}"),
        ("/v1/channels/", ""),
        ("/v1/broadcast", "/v1/broadcast"),
        ("/v1/info/channels/a/b", "/v1/info/channels/{channel}"),
        ("/v1/info/sessions/s", "/v1/info/sessions/{session}"),
        (f"/v1/{MARKER}", ""),
    ],
)
def test_routes_have_no_names_in_them(path: str, route: str) -> None:
    assert route_of(path) == route


def test_nothing_is_loaded_where_it_is_off() -> None:
    program = (  # redis-py loads OpenTelemetry by itself where it is installed, so it is made not to be
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from hybrid.settings import Settings; from hybrid.web.app import create_app\n"
        "create_app(Settings(development_issuer=True))\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.', 'prometheus', 'hybrid.tracing'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("module", "setting", "extra"), [("opentelemetry", "tracing", "otel"), ("prometheus_client", "metrics", "metrics")]
)
def test_a_library_that_is_missing_is_one_sentence(module: str, setting: str, extra: str) -> None:
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from hybrid.errors import SettingsError; from hybrid.settings import Settings\n"
        "from hybrid.web.app import create_app\n"
        f"try: create_app(Settings(development_issuer=True, {setting}=True))\n"
        "except SettingsError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith(f"{setting} = true needs the library {module.replace('_', '-')}")
    assert f"hybrid-realtime[{extra}]" in done.stdout
