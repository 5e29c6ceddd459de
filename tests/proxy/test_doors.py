"""TLS, names, and the way in: whoever is not meant gets nothing."""

from __future__ import annotations

import asyncio
import ssl
import warnings

import pytest

from hybrid.web.static import STATIC_PATH
from tests.support.nginx import HOST
from tests.support.proxied import proxied

GET = b"GET /v1/channels/a HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"


async def shake_hands(port: int, context: ssl.SSLContext, name: str) -> ssl.SSLObject:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        found: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return found
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken_with_forward_secrecy(version: ssl.TLSVersion) -> None:
    async with proxied() as site:
        context = site.nginx.client_context(alpn=("h2", "http/1.1"))
        context.minimum_version = context.maximum_version = version
        spoken = await shake_hands(site.nginx.https_port, context, HOST)
        assert spoken.selected_alpn_protocol() == "h2"
        name, _, _ = spoken.cipher() or ("", "", 0)
        assert name.startswith(("ECDHE-", "TLS_"))
        assert "GCM" in name or "CHACHA20" in name


async def test_tls_1_1_is_refused() -> None:
    async with proxied() as site:
        context = site.nginx.client_context()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")  # or this machine's OpenSSL would not even ask
        with pytest.raises(ssl.SSLError) as refused:
            await shake_hands(site.nginx.https_port, context, HOST)
        assert "PROTOCOL_VERSION" in str(refused.value).upper()  # the server's alert


async def test_weak_ciphers_are_refused() -> None:
    async with proxied() as site:
        context = site.nginx.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
            await shake_hands(site.nginx.https_port, context, HOST)


@pytest.mark.parametrize("name", ["stranger.example", "127.0.0.1", "sub." + HOST])
async def test_a_handshake_for_an_unknown_name_is_refused(name: str) -> None:
    """Not even a certificate is shown, which would tell scanners whose server this is."""
    async with proxied() as site:
        context = site.nginx.client_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            await shake_hands(site.nginx.https_port, context, name)


@pytest.mark.parametrize("host", [b"stranger.example", b"127.0.0.1", b"sub." + HOST.encode(), b"_"])
async def test_a_request_for_an_unknown_name_is_refused(host: bytes) -> None:
    async with proxied() as site:
        status, _, body = await site.raw(GET % host)
        assert status == 421
        assert b"nginx" in body
        status, _, _ = await site.raw(GET % host, is_secure=False)
        assert status == 0  # no answer at all
        (entry, *_) = await site.nginx.entries(2)
        assert entry["node"] == ""


async def test_hybrid_compares_names_too() -> None:
    """Behind the port of a known name: nginx compares the name only."""
    async with proxied() as site:
        status, _, body = await site.raw(GET % (HOST.encode() + b":https"))
        assert status in (400, 403)
        assert b"nginx/" not in body


async def test_tokens_are_not_taken_in_the_clear() -> None:
    """A redirect would only hide that the token has been sent for everybody to read."""
    async with proxied() as site:
        status, headers, _ = await site.raw(GET % HOST.encode(), is_secure=False)
        assert status == 403
        assert "location" not in headers
        status, headers, _ = await site.raw(
            b"GET /page?x=1 HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % HOST.encode(), is_secure=False
        )
        assert (status, headers["location"]) == (308, f"https://{HOST}/page?x=1")


@pytest.mark.parametrize(
    "path", ["/v1/channels/a", f"{STATIC_PATH}/hybrid/index.js", f"{STATIC_PATH}/none.js", "/", "/v1/publish"]
)
async def test_every_answer_asks_for_tls_and_tells_no_version(path: str) -> None:
    async with proxied() as site, site.http() as http:
        for method in ("GET", "POST"):
            answer = await http.request(method, path, **site.named())
            assert answer.headers["strict-transport-security"] == "max-age=63072000"
            assert answer.headers["server"] == "nginx"
            assert "nginx/" not in answer.text
