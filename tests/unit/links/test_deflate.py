"""Which offers of permessage-deflate are taken; `websockets` as the client that must be content with the answer."""

from __future__ import annotations

import gc
import zlib

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.headers import build_extension, parse_extension

from hybrid.clock import SystemClock
from hybrid.limits import Limits
from hybrid.links.deflate import ANSWER, DeflatedWebSocket, offers_deflate
from hybrid.links.handoff import NO_OWNER, HandedOffWebSocket


def offered(*values: str) -> bool:
    headers = [(b"host", b"test"), *((b"sec-websocket-extensions", value.encode("latin-1")) for value in values)]
    return offers_deflate({"headers": headers})


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(["permessage-deflate; client_max_window_bits"], id="browsers"),
        pytest.param(["permessage-deflate"], id="bare"),
        pytest.param(["permessage-deflate; client_max_window_bits=12"], id="a small window of the client's"),
        pytest.param(["permessage-deflate; server_no_context_takeover; client_no_context_takeover"], id="as we answer"),
        pytest.param(["permessage-bzip2, permessage-deflate"], id="the second of two"),
        pytest.param(["x-other", "permessage-deflate"], id="in a second line"),
        pytest.param(["permessage-deflate; server_max_window_bits=10, permessage-deflate"], id="as a second choice"),
        pytest.param(
            [
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                f"server_max_window_bits={bits}; client_max_window_bits"
                for bits in (9, 10)
            ]
            + ["permessage-deflate; client_no_context_takeover; client_max_window_bits"],
            id="three choices with every parameter",
        ),
    ],
)
def test_offers_that_are_taken(values: list[str]) -> None:
    assert offered(*values)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([], id="none"),
        pytest.param(["x-webkit-deflate-frame"], id="another extension"),
        pytest.param(["permessage-deflate; server_max_window_bits=10"], id="a small window of ours"),
        pytest.param(["permessage-deflate; server_max_window_bits=15"], id="which would have to be answered"),
        pytest.param(["permessage-deflate; unknown"], id="a parameter that nobody knows"),
        pytest.param(["permessage-deflate; client_max_window_bits=16"], id="a value out of range"),
        pytest.param(["permessage-deflate; server_no_context_takeover=1"], id="a value where there is none"),
        pytest.param(["permessage-deflate; client_max_window_bits; client_max_window_bits"], id="twice the same"),
        pytest.param(["permessage-deflate;;"], id="broken"),
        pytest.param(["\xe9"], id="not ASCII"),
        pytest.param(["permessage-deflate" + " " * 512], id="longer than any browser's"),
    ],
)
def test_offers_that_are_declined(values: list[str]) -> None:
    assert not offered(*values)


@pytest.mark.parametrize("bits", [True, None, 9, 15])
def test_a_client_takes_our_answer(bits: int | None) -> None:
    client = ClientPerMessageDeflateFactory(client_max_window_bits=bits)
    assert offered(build_extension([(client.name, client.get_request_params())]))
    [(_, parameters)] = parse_extension(ANSWER.decode())
    made = client.process_response_params(parameters, [])
    assert isinstance(made, PerMessageDeflate)
    assert made.remote_no_context_takeover
    assert made.local_no_context_takeover


def test_it_weighs_what_any_other_websocket_does() -> None:
    """No window, no table, no field of its own waits for the next message of an idle client."""
    made = [
        kind(
            owner=NO_OWNER, is_binary=False, limits=Limits(), clock=SystemClock(), message_max_bytes=1_000, client=None
        )
        for kind in (HandedOffWebSocket, DeflatedWebSocket)
    ]
    assert made[0].__sizeof__() == made[1].__sizeof__()
    assert not hasattr(made[1], "__dict__")
    link = made[1]
    packer = zlib.compressobj(wbits=-15)
    payload = packer.compress(b"hello" * 20) + packer.flush(zlib.Z_SYNC_FLUSH)
    payload = payload.removesuffix(b"\x00\x00\xff\xff")
    link.data_received(bytes((0xC1, 0x80 | len(payload))) + bytes(4) + payload)
    assert not [found for found in gc.get_referents(link) if "zlib" in type(found).__module__.lower()]
    assert link._reader is None
