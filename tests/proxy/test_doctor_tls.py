"""`hybrid doctor` and certificates: who issued them, whom that makes suspicious, and that no token goes to such."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

from hybrid.client.doctor import TRANSPORTS, Examination, Finding, certificate
from hybrid.client.doctor.certificate import unchecked_tls
from hybrid.client.endpoint import Endpoint
from hybrid.errors import SettingsError
from tests.proxy.test_doctor import LIMITS, PACE, hybrid_doctor
from tests.support.meddler import Meddler, Meddling, meddler
from tests.support.processes import free_port
from tests.support.relay import Relay
from tests.support.server import RunningServer, running_server, settings_for


@dataclass(frozen=True)
class Signed:
    """A certificate of an authority of its own, as files."""

    authority: str
    certificate: str
    key: str

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def der(self) -> bytes:
        shown = x509.load_pem_x509_certificate(Path(self.certificate).read_bytes())
        return shown.public_bytes(serialization.Encoding.DER)

    def fingerprint(self) -> str:
        shown = x509.load_pem_x509_certificate(Path(self.certificate).read_bytes())
        return shown.fingerprint(hashes.SHA256()).hex(":")

    def trusting(self) -> ssl.SSLContext:
        """What a client of a machine has to which the authority was added."""
        return ssl.create_default_context(cafile=self.authority)


def signed(
    folder: Path, issuer: str, name: str = "localhost", *, days: int = 1, names: x509.ExtensionType | None = None
) -> Signed:
    """One for `name`, or `names`, that `issuer` has signed, until so many days from now."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    by = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, issuer), x509.NameAttribute(NameOID.COMMON_NAME, "Root")]
    )

    def build(subject: x509.Name, key: ec.EllipticCurvePrivateKey, is_authority: bool) -> bytes:
        named = names or x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=9))
            .not_valid_after(now + datetime.timedelta(days=9 if is_authority else days))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
        )
        if not is_authority:
            builder = builder.add_extension(named, critical=False)
        return builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    made = Signed(*(str(folder / file) for file in ("authority.pem", "certificate.pem", "key.pem")))
    Path(made.authority).write_bytes(build(by, keys[0], is_authority=True))
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    Path(made.certificate).write_bytes(build(own, keys[1], is_authority=False))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    Path(made.key).write_bytes(keys[1].private_bytes(*plain))
    return made


class Wiretap:
    """What a TLS terminating proxy gets to read."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    def __call__(self, head: bytes) -> Meddling:
        self.heads.append(head)
        return Meddling()


class FirstOneCut(Relay):
    """Resets the first connection and carries the others."""

    has_cut = False

    def _accept(self) -> asyncio.Protocol:
        self.is_refusing, self.has_cut = not self.has_cut, True
        return super()._accept()


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(settings_for(limits=LIMITS)) as running:
        yield running


async def examined(
    proxy: Meddler, token: str, tls: ssl.SSLContext | None, *, expected: str = "", insecure: bool = False
) -> dict[str, Finding]:
    endpoint = Endpoint(f"https://localhost:{proxy.port}", dial=("127.0.0.1", proxy.port), tls=tls)
    unchecked = Endpoint(f"https://localhost:{proxy.port}", dial=("127.0.0.1", proxy.port), tls=unchecked_tls())
    await endpoint.open()
    await unchecked.open()
    try:
        options = {"expected_issuer": expected, "unchecked": unchecked if insecure else None}
        examination = Examination(endpoint, token, pace=PACE, **options)  # type: ignore[arg-type]
        await examination.run()
        return {finding.name: finding for finding in examination.findings}
    finally:
        await endpoint.close()
        await unchecked.close()


async def test_an_authority_that_was_added_on_this_machine(server: RunningServer, tmp_path: Path) -> None:
    files = signed(tmp_path, "Zscaler Inc.")
    async with meddler(server.port, files.server()) as proxy:
        findings = await examined(proxy, server.token(), files.trusting())
    facts = findings["tls"].facts
    assert (
        facts[0]
        == "certificate issued by Zscaler Inc. (Root), which is no public authority but was added on this machine"
    )
    assert facts[1:3] == ("a proxy may read along", "Zscaler is the name of something that reads along")
    assert facts[3].endswith(f"SHA-256 {files.fingerprint()}")
    assert [name for name in TRANSPORTS if findings[name].works] == list(TRANSPORTS)
    assert findings["sse"].figures["beats_ms"], "it is trusted here, so the token was sent"


async def test_a_public_authority(server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = signed(tmp_path, "Some Public Authority")
    monkeypatch.setattr(certifi, "where", lambda: files.authority)
    async with meddler(server.port, files.server()) as proxy:
        findings = await examined(proxy, server.token(), files.trusting(), expected="some public")
    assert findings["tls"].works
    assert findings["tls"].facts == ("certificate issued by Some Public Authority (Root), a public authority",)


async def test_nobody_trusts_it_and_nothing_is_sent(server: RunningServer, tmp_path: Path) -> None:
    files = signed(tmp_path, "Hotel")
    tap = Wiretap()
    async with meddler(server.port, files.server()) as proxy:
        proxy.rule = tap
        findings = await examined(proxy, server.token(), None)
    assert list(findings) == ["tls"]
    assert findings["tls"].flaws == ("untrusted",)
    assert findings["tls"].facts[0].startswith("issued by Hotel (Root), which nothing here trusts (")
    assert findings["tls"].facts[0].endswith("somebody may read along, or the server signs for itself")
    assert tap.heads == []


async def test_insecure_goes_on_without_the_token(server: RunningServer, tmp_path: Path) -> None:
    files = signed(tmp_path, "Hotel")
    tap = Wiretap()
    token = server.token()
    async with meddler(server.port, files.server()) as proxy:
        proxy.rule = tap
        findings = await examined(proxy, token, None, insecure=True)
    assert not findings["tls"].works
    assert all("wants a token" in findings[name].facts[0] for name in TRANSPORTS)
    assert len(tap.heads) == 4
    assert not any(b"authorization" in head.lower() or token.encode() in head for head in tap.heads)


async def test_an_issuer_that_is_not_the_right_one_gets_no_token(server: RunningServer, tmp_path: Path) -> None:
    files = signed(tmp_path, "Corporate Gateway")
    tap = Wiretap()
    async with meddler(server.port, files.server()) as proxy:
        proxy.rule = tap
        findings = await examined(proxy, server.token(), files.trusting(), expected="Let's Encrypt")
    told = "TLS issuer replaced: issued by Corporate Gateway (Root), not by Let's Encrypt"
    assert findings["tls"].facts[0] == told
    assert all("wants a token" in findings[name].facts[0] for name in TRANSPORTS)
    assert not any(b"authorization" in head.lower() for head in tap.heads)


async def test_an_issuer_that_could_not_be_seen_gets_no_token(server: RunningServer, tmp_path: Path) -> None:
    """The handshake that was to show it is cut, those that follow are not."""
    files = signed(tmp_path, "Corporate Gateway")
    tap = Wiretap()
    async with meddler(server.port, files.server()) as proxy, FirstOneCut(proxy.port) as relay:
        proxy.rule = tap
        proxy.port = relay.address[1]
        findings = await examined(proxy, server.token(), files.trusting(), expected="Let's Encrypt")
    assert findings["tls"].facts == (
        "no TLS handshake could be made",
        "whether Let's Encrypt issued the certificate is not known: no token is sent",
    )
    assert all("wants a token" in findings[name].facts[0] for name in TRANSPORTS)
    assert not any(b"authorization" in head.lower() for head in tap.heads)


async def test_no_issuer_can_be_expected_over_http() -> None:
    url = "http://127.0.0.1:1"
    with pytest.raises(SettingsError, match="https only"):
        Examination(Endpoint(url), None, expected_issuer="Let's Encrypt")
    status, lines, told = await hybrid_doctor(url, "--expect-issuer", "Let's Encrypt", token="kept-to-itself")
    assert (status, lines) == (2, [])
    assert "https only" in told


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(b"\x30\x07\xa5\x05\xa1\x03\x0c\x01x", id="an EDI party, which nobody supports"),
        pytest.param(b"\x30\x03\x82\x01\xff", id="a name that is not ASCII"),
    ],
)
async def test_a_strange_certificate_is_told_as_any_other(server: RunningServer, tmp_path: Path, names: bytes) -> None:
    strange = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, names)
    files = signed(tmp_path, "Hotel", names=strange)
    async with meddler(server.port, files.server()) as proxy:
        findings = await examined(proxy, server.token(), files.trusting())
    assert "issued by Hotel (Root)" in findings["tls"].facts[0] or "is for nothing" in findings["tls"].facts[0]
    assert findings["tls"].figures["names"] == []


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        pytest.param(
            b"Hotel of", b"Hotel\xff\xfe\xfd", ("somebody unnamed", ("localhost",)), id="letters that are none"
        ),
        pytest.param(b"\x55\x1d\x23", b"\x55\x1d\x11", ("Hotel of a name (Root)", ()), id="an extension twice"),
    ],
)
async def test_what_cannot_be_read_of_a_certificate_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was: bytes, becomes: bytes, told: tuple[str, tuple[str, ...]]
) -> None:
    """Of one that no library would make, so it is changed below it; no server of ours can show it either."""
    files = signed(tmp_path, "Hotel of a name")
    der = files.der()
    assert was in der

    async def shown(*_: object) -> bytes:
        return der.replace(was, becomes)

    monkeypatch.setattr(certificate, "_handshake", shown)
    seen = await certificate.look(Endpoint("https://localhost:1"), 1.0)
    assert seen is not None
    assert (seen.issuer, seen.names) == told


async def test_an_expired_certificate(server: RunningServer, tmp_path: Path) -> None:
    files = signed(tmp_path, "Late", days=-1)
    async with meddler(server.port, files.server()) as proxy:
        findings = await examined(proxy, server.token(), files.trusting())
    assert findings["tls"].facts[0] == "the certificate issued by Late (Root) has expired, or the clock here is wrong"


async def test_a_certificate_for_another_name(server: RunningServer, tmp_path: Path) -> None:
    files = signed(tmp_path, "Portal", name="login.hotel.example")
    async with meddler(server.port, files.server()) as proxy:
        findings = await examined(proxy, server.token(), files.trusting())
    told = "the certificate is for login.hotel.example: another server answers, or a sign-in page of the network"
    assert findings["tls"].facts[0] == told


@pytest.mark.slow
async def test_the_command_over_a_certificate_that_is_not_trusted(server: RunningServer, tmp_path: Path) -> None:
    files = signed(tmp_path, "Hotel")
    async with meddler(server.port, files.server()) as proxy:
        url = f"https://localhost:{proxy.port}"
        status, lines, _ = await hybrid_doctor(url, token=server.token())
        assert status == 1
        assert lines[0].startswith("tls        fails: issued by Hotel (Root), which nothing here trusts")
        assert lines[-1].startswith("hybrid cannot get through here: issued by Hotel")
        status, lines, _ = await hybrid_doctor(url, "--insecure", "--idle", "0", token=server.token())
        assert status == 1, "what works over it is not to be relied on"
        assert lines[-1].endswith("; but for that it would use WebSocket.")
        status, lines, _ = await hybrid_doctor(url, "--insecure", "--idle", "0", "--json", token=server.token())
        assert (status, json.loads("\n".join(lines))["has_token"]) == (1, False)


async def test_where_no_tls_is_spoken(server: RunningServer) -> None:
    async with meddler(server.port) as proxy:
        findings = await examined(proxy, server.token(), None)
    assert findings["tls"].facts == ("no TLS handshake could be made",)
    assert not findings["server"].works


async def test_where_nobody_listens() -> None:
    findings = await examined(Meddler(free_port()), "x", None)
    assert [finding.works for finding in findings.values()] == [False, False]
