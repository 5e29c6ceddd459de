"""The text of /metrics as numbers."""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import SettingsError
from hybrid.top import reading
from hybrid.top.reading import check_installed, read

TEXT = """# HELP hybrid_connections Open streams.
# TYPE hybrid_connections gauge
hybrid_connections{kind="session",state="live",transport="websocket",worker="1"} 40.0
hybrid_connections{kind="session",state="slow",transport="websocket",worker="1"} 2.0
hybrid_connections{kind="channels",state="catching_up",transport="sse",worker="1"} 3.0
hybrid_connections{kind="session",state="live",transport="websocket",worker="2-leaving"} 7.0
# TYPE hybrid_polls_waiting gauge
hybrid_polls_waiting{worker="1"} 5.0
# TYPE hybrid_connections_max gauge
hybrid_connections_max{worker="1"} 15000.0
# TYPE hybrid_deliveries_total counter
hybrid_deliveries_total{worker="1"} 1234.0
hybrid_deliveries_total{worker="2-leaving"} 6.0
# TYPE hybrid_publishes_total counter
hybrid_publishes_total{outcome="appended",worker="1"} 12.0
hybrid_publishes_total{outcome="forbidden",worker="1"} 99.0
# TYPE hybrid_limits_hit_total counter
hybrid_limits_hit_total{limit="connects_per_s",worker="1"} 8.0
# TYPE hybrid_broker_up gauge
hybrid_broker_up{purpose="asking",worker="1"} 1.0
hybrid_broker_up{purpose="listening",worker="1"} 0.0
# TYPE hybrid_broker_oldest_seconds gauge
hybrid_broker_oldest_seconds{purpose="asking",worker="1"} NaN
hybrid_broker_oldest_seconds{purpose="reading",worker="1"} 1.5
# TYPE hybrid_event_loop_lag_seconds histogram
hybrid_event_loop_lag_seconds_bucket{le="0.001",worker="1"} 5.0
hybrid_event_loop_lag_seconds_bucket{le="+Inf",worker="1"} 6.0
# TYPE hybrid_build_info gauge
hybrid_build_info{broker="redis",implementation="CPython",python="3.11.7",version="0.1.0",worker="1"} 1.0
hybrid_build_info{broker="redis",implementation="CPython",python="3.11.7",version="0.1.0",worker="2-leaving"} 1.0
# TYPE hybrid_workers gauge
hybrid_workers 2.0
# TYPE hybrid_workers_silent gauge
hybrid_workers_silent 1.0
# TYPE something_else gauge
something_else{worker="7"} 1.0
"""


def test_each_worker_by_itself() -> None:
    told = read(TEXT)
    assert told.silent == 1
    one, two = told.workers
    assert (one.name, two.name) == ("1", "2-leaving")
    assert one.clients == {"websocket": 42, "sse": 3, "longpoll": 5}
    assert (one.slow, one.catching_up, one.room) == (2, 3, 15_000)
    assert one.counts == {"deliveries": 1234.0, "published": 12.0}
    assert one.limits == {"connects_per_s": 8.0}
    assert one.broker_up == {"asking": 1.0, "listening": 0.0}
    assert one.broker_oldest_s == 1.5, "what is no number is left out"
    assert one.histograms == {"lag": {0.001: 5.0, float("inf"): 6.0}}
    assert two.clients == {"websocket": 7}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>hello</html>",
        "up 1\n",
        'hybrid_sessions{state="x} 1\n',
        "hybrid_sessions one\n",
        "process_open_fds 3",
    ],
)
def test_what_is_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be read|not the metrics"):
        read(text)


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "TEXT_MAX_BYTES", len(TEXT))
    assert read(TEXT).workers
    with pytest.raises(ValueError, match=f"larger than {len(TEXT)} bytes"):
        read(TEXT + "\n")


@given(st.text(max_size=200) | st.text(alphabet='hybrid_sessions{}="1 \n#\\.eE+-,', max_size=80))
def test_whatever_comes_is_read_or_refused(text: str) -> None:
    with suppress(ValueError):
        read(text)


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setitem(sys.modules, "prometheus_client.parser", None)
    with pytest.raises(SettingsError, match=r"pip install 'hybrid-realtime\[metrics\]'"):
        check_installed()
