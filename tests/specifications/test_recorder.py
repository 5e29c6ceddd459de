"""What holds the other tests against the published schemas would notice what does not fit."""

from __future__ import annotations

import pytest

from hybrid.protocol.codec import JSON
from tests.support.specified import recording


def test_what_does_not_fit_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = recording(monkeypatch)
    JSON.decode_push(b'{"heartbeat":{"at_ms":1}}')
    assert recorder.faults == []
    JSON.decode_push(b'{"greeting":{"text":"hello"}}')
    assert len(recorder.faults) == 1
    JSON.decode_push(b'{"heartbeat":{"at_ms":1,"mood":"good"}}')
    assert len(recorder.faults) == 2
    recorder.answer("GET", b"/v1/ping", 200, b'{"at_ms":1}', "application/json")
    assert len(recorder.faults) == 2
    recorder.answer("GET", b"/v1/ping", 200, b'{"at_ms":"1"}', "application/json")
    recorder.answer("GET", b"/v1/ping", 202, b'{"at_ms":1}', "application/json")
    recorder.answer("GET", b"/v1/ping", 200, b'{"at_ms":1}', "text/plain")
    problem = b'{"title":"Conflict","status":409,"detail":"No.","number":3409,"name":"out_of_order"}'
    recorder.answer("GET", b"/v1/ping", 409, problem, "application/problem+json")
    recorder.answer("GET", b"/v1/nothing", 409, problem, "application/problem+json")
    assert len(recorder.faults) == 7
