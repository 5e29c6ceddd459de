"""Who has signed the server's certificate, as it is seen from here: a proxy that reads along signs for itself.

That an issuer was *replaced* can be known only by who knows the right one (`--expect-issuer`). What can be seen without
is whether it is an authority that the public trusts (Mozilla's list, as certifi brings it), one that was only added on
this machine, as companies do for a proxy that reads along and for servers of their own, or one that nobody here trusts.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass
from typing import Final, Literal

import certifi
import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from hybrid.client.doctor.finding import Finding, fails, works
from hybrid.client.doctor.words import visible
from hybrid.client.endpoint import Endpoint

READERS: Final = (
    *("Avast", "AVG", "Barracuda", "Bitdefender", "Blue Coat", "Burp", "Charles Proxy", "Check Point", "Cisco"),
    *("ESET", "Fiddler", "Forcepoint", "FortiGate", "Fortinet", "Kaspersky", "McAfee", "mitmproxy", "Netskope"),
    *("Palo Alto", "PortSwigger", "Sophos", "Squid", "Symantec", "Trend Micro", "WatchGuard", "Websense", "Zscaler"),
)
"""Makers and products that put their own certificate in place of a server's: told beside what is seen, no more."""
# X509_V_ERR_* of OpenSSL: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_EXPIRED: Final = 10
_OTHER_NAME: Final = frozenset({62, 64})


@dataclass(frozen=True, slots=True)
class Certificate:
    """As it was shown. `trust`: by the public's list, by this machine alone, or by nobody; then `code` and `why`."""

    issuer: str
    fingerprint: str
    names: tuple[str, ...]
    trust: Literal["public", "local", "none"]
    code: int = 0
    why: str = ""


async def look(endpoint: Endpoint, patience_s: float) -> Certificate | None:
    """Up to three handshakes, over which nothing is sent. None where there is no TLS server. Does not raise."""
    public = ssl.create_default_context(cafile=certifi.where())
    ours = endpoint.tls or httpx2.create_ssl_context(trust_env=False)
    unchecked = unchecked_tls()
    code, why = 0, ""
    contexts: list[tuple[Literal["public", "local", "none"], ssl.SSLContext]]
    contexts = [("public", public), ("local", ours), ("none", unchecked)]
    for trust, context in contexts:
        try:
            shown = x509.load_der_x509_certificate(await _handshake(endpoint, context, patience_s))
        except ssl.SSLCertVerificationError as error:
            code, why = error.verify_code, error.verify_message
        except (OSError, TimeoutError, ValueError):
            return None
        else:
            refused = (code, why) if trust == "none" else (0, "")
            return Certificate(_issuer(shown), _fingerprint(shown), _names(shown), trust, *refused)
    return None


def try_certificate(shown: Certificate, expected: str = "") -> Finding:
    """What it tells. `expected`: the issuer that it should have, or a part of its name; "" where nobody knows."""
    signer = visible(shown.issuer)
    figures = {"issuer": signer, "sha256": shown.fingerprint, "names": list(shown.names), "trust": shown.trust}
    reader = next((name for name in READERS if re.search(rf"\b{name}\b", shown.issuer, re.IGNORECASE)), None)
    known = [f"{reader} is the name of something that reads along"] if reader and shown.trust != "public" else []
    compare = f"compare with what another network shows: SHA-256 {shown.fingerprint}"
    if shown.trust == "none":
        return Finding("tls", False, (_distrusted(shown, signer), *known, compare), ("untrusted",), figures)
    if expected and expected.lower() not in shown.issuer.lower():
        told = f"TLS issuer replaced: issued by {signer}, not by {visible(expected)}"
        return Finding("tls", False, (told, *known, compare), ("issuer_replaced",), figures)
    if shown.trust == "local":
        told = f"certificate issued by {signer}, which is no public authority but was added on this machine"
        return works("tls", told, "a proxy may read along", *known, compare, figures=figures)
    return works("tls", f"certificate issued by {signer}, a public authority", figures=figures)


def no_certificate(expected: str = "") -> Finding:
    """The port speaks no TLS, nobody is there, or the handshake was cut. `expected`: see `try_certificate`."""
    if not expected:
        return fails("tls", "no_tls", "no TLS handshake could be made")
    withheld = f"whether {visible(expected)} issued the certificate is not known: no token is sent"
    return fails("tls", "no_tls", "no TLS handshake could be made", withheld)


def unchecked_tls() -> ssl.SSLContext:
    """Trusts anybody; nothing secret may go over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _distrusted(shown: Certificate, signer: str) -> str:
    if shown.code == _EXPIRED:
        return f"the certificate issued by {signer} has expired, or the clock here is wrong"
    if shown.code in _OTHER_NAME:
        named = visible(", ".join(shown.names)) or "nothing"
        return f"the certificate is for {named}: another server answers, or a sign-in page of the network"
    told = f"issued by {signer}, which nothing here trusts ({visible(shown.why)})"
    return f"{told}: somebody may read along, or the server signs for itself"


async def _handshake(endpoint: Endpoint, context: ssl.SSLContext, patience_s: float) -> bytes:
    host, port = endpoint.dialled("longpoll") or (endpoint.host, endpoint.port)
    async with asyncio.timeout(patience_s):
        _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=endpoint.host)
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if not isinstance(der, bytes):
            raise ValueError("no certificate")
        return der
    finally:
        writer.transport.abort()


def _issuer(shown: x509.Certificate) -> str:
    try:
        parts = [
            str(attribute.value)
            for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
            for attribute in shown.issuer.get_attributes_for_oid(oid)
        ]
    except ValueError:
        parts = []
    return f"{parts[0]} ({parts[1]})" if len(parts) > 1 else parts[0] if parts else "somebody unnamed"


def _names(shown: x509.Certificate) -> tuple[str, ...]:
    try:
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return ()
    return tuple(visible(str(name.value)) for name in names)


def _fingerprint(shown: x509.Certificate) -> str:
    return shown.fingerprint(hashes.SHA256()).hex(":")
