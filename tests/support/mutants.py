"""Mutants of tokens: a seed gives a token that is nearly in order, in one of the ways that attacks have been made of.

Most mutants keep a signature that no longer fits, or never did. Some are signed again with the right key, so that a
hostile header or claim gets past the signature; what those may lead to is for the caller to say.
"""

from __future__ import annotations

import hmac
import json
import random
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from tests.support.tokens import (
    EC_KEY,
    NOW_S,
    OKP_KEY,
    OTHER_EC_KEY,
    RSA_KEY,
    claims,
    public,
    sign,
)

OTHER_ISSUER: Final = "https://other.example"
_ALGORITHMS: Final = ("ES256", "RS256", "PS256", "EdDSA", "Ed25519")


class Source(NamedTuple):
    """A token in order, and what it was signed with."""

    token: str
    key: ECKey | RSAKey | OKPKey
    algorithm: str
    is_expired: bool = False


def sources() -> list[Source]:
    """Tokens of each algorithm, of two issuers that share a key id, and some whose only fault is their age."""
    made = []
    keys: dict[str, ECKey | RSAKey | OKPKey] = {
        "ES256": EC_KEY, "RS256": RSA_KEY, "PS256": RSA_KEY, "EdDSA": OKP_KEY, "Ed25519": OKP_KEY
    }  # fmt: skip
    for algorithm, key in keys.items():
        made.append(Source(sign(key=key, algorithm=algorithm), key, algorithm))
        old = claims(exp=int(NOW_S) - 3_600)
        made.append(Source(sign(old, key=key, algorithm=algorithm), key, algorithm, True))
    made.append(Source(sign(claims(iss=OTHER_ISSUER), key=OTHER_EC_KEY), OTHER_EC_KEY, "ES256"))
    return made


class Mutant(NamedTuple):
    """`how` names what was done; with `is_signed` the signature holds, whatever stands in the token."""

    token: str
    how: str
    is_signed: bool


def mutant(seed: int, among: list[Source]) -> Mutant:
    """The mutant of a seed: the same for the same sources."""
    chance = random.Random(seed)
    source = chance.choice(among)
    how = chance.choice(_WAYS)
    made = how(source, among, chance)
    return Mutant(made, how.__name__, how in (_signed_header, _signed_claim))


# -- the text


def _bits(source: Source, among: list[Source], chance: random.Random) -> str:
    text = bytearray(source.token.encode())
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
    return text.decode("latin-1")


def _letters(source: Source, among: list[Source], chance: random.Random) -> str:
    letters = list(source.token)
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(len(letters))
        match chance.randrange(4):
            case 0:
                letters[place] = chance.choice("ABxyz019-_.=+/ \n\r\t\x00\x7fé.．。\u202e\ud800💥")
            case 1:
                letters.insert(place, chance.choice("A.-_=9 \n\u200b\ufeff"))
            case 2:
                if len(letters) > 60:
                    del letters[place : place + chance.choice((1, 1, 4, 50))]
            case _:
                letters += letters[: chance.randrange(40)]
    return "".join(letters)


def _cut(source: Source, among: list[Source], chance: random.Random) -> str:
    place = chance.randrange(len(source.token))
    return source.token[:place] if chance.random() < 0.5 else source.token[place:]


def _swapped(source: Source, among: list[Source], chance: random.Random) -> str:
    """Parts of several tokens, or of one in another order or number."""
    parts = [chance.choice(among).token.split(".")[place] for place in range(3)]
    match chance.randrange(6):
        case 0:
            chance.shuffle(parts)
        case 1:
            parts.append(parts[0])
        case 2:
            parts += ["", ""]  # as many as an encrypted token has (RFC 7516)
        case 3:
            parts[chance.randrange(3)] = ""
        case _:
            pass
    return ".".join(parts)


def _spelled(source: Source, among: list[Source], chance: random.Random) -> str:
    """The same bytes in base64 that is not the canonical spelling (RFC 4648, section 3.5), or not base64url at all."""
    parts = source.token.split(".")
    place = chance.randrange(3)
    part = parts[place]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    match chance.randrange(5):
        case 0:
            part = part[:-1] + chance.choice(alphabet)
        case 1:
            part += "=" * chance.randrange(1, 4)
        case 2:
            part = b64encode(_bytes(part) + b"\xff").decode()
        case 3:
            part = part[:9] + chance.choice("\n \t=") + part[9:]
        case _:
            part = part.replace(chance.choice("ABCDEFGJabcdefgj"), chance.choice("-_+/"), 1)
    parts[place] = part
    return ".".join(parts)


# -- the bytes and members, with a signature that does not fit


def _decoded_bits(source: Source, among: list[Source], chance: random.Random) -> str:
    """Bits of what is encoded, encoded canonically again: it gets as far as the signature."""
    parts = source.token.split(".")
    place = chance.randrange(3)
    data = bytearray(_bytes(parts[place]))
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    parts[place] = _text(bytes(data))
    return ".".join(parts)


def _member(source: Source, among: list[Source], chance: random.Random) -> str:
    """One member of the header or the claims is hostile, missing, renamed or there twice."""
    parts = source.token.split(".")
    place = chance.randrange(2)
    members = json.loads(_bytes(parts[place]))
    raw = _HOSTILE_JSON[place](members, chance)
    parts[place] = _text(raw)
    return ".".join(parts)


def _signature(source: Source, among: list[Source], chance: random.Random) -> str:
    """Signatures that some library has taken for good once, above all zeros for ECDSA (CVE-2022-21449)."""
    signed, _, signature = source.token.rpartition(".")
    data = _bytes(signature)
    half = len(data) // 2
    choices = (
        bytes(len(data)), b"\xff" * len(data), data[half:] + data[:half], data[:-1], data + b"\x00", b"\x00" + data,
        data[:half], b"\x30\x06\x02\x01\x01\x02\x01\x01", bytes(half) + data[half:], data[::-1], b"\x00",
    )  # fmt: skip
    return f"{signed}.{_text(chance.choice(choices))}"


def _algorithm(source: Source, among: list[Source], chance: random.Random) -> str:
    """Another algorithm: none, one with the public key as its secret, one that the key is not for."""
    header, payload, signature = source.token.split(".")
    members = json.loads(_bytes(header))
    name = chance.choice(("none", "None", "nOnE", "HS256", "HS512", "ES384", "RS512", "ES256K", "", *_ALGORITHMS))
    if name == members["alg"]:
        name = "HS256"
    members["alg"] = name
    signed = f"{_text(_dump(members))}.{payload}"
    if name == "none":
        return f"{signed}." if chance.random() < 0.5 else f"{signed}.{signature}"
    if name.startswith("HS"):
        key = source.key
        secret = chance.choice((
            key.as_pem(private=False), json.dumps(key.as_dict(private=False)).encode(),
            json.dumps(public(key)).encode(), (key.kid or "").encode(), b"",
        ))  # fmt: skip
        digest = "sha512" if name == "HS512" else "sha256"
        signature = _text(hmac.digest(secret, signed.encode(), digest))
    return f"{signed}.{signature}"


def _own_key(source: Source, among: list[Source], chance: random.Random) -> str:
    """Signed in good order, by a key that the token brings along or that belongs to another issuer."""
    return chance.choice(_OWN_KEY)


_BROUGHT: Final = OTHER_EC_KEY.as_dict(private=False)
_OWN_KEY: Final = [
    sign(key=OTHER_EC_KEY, **header)
    for header in (
        {"jwk": _BROUGHT}, {"jwk": [_BROUGHT]}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example/x"},
        {"x5c": ["MIIB"]}, {"kid": "ec"}, {"kid": OTHER_ISSUER}, {"kid": "../../dev/null"}, {"kid": None},
    )
]  # fmt: skip


# -- signed again


def _signed_header(source: Source, among: list[Source], chance: random.Random) -> str:
    header, payload, _ = source.token.split(".")
    return _resigned(_HOSTILE_JSON[0](json.loads(_bytes(header)), chance), _bytes(payload))


def _signed_claim(source: Source, among: list[Source], chance: random.Random) -> str:
    header = {"alg": "ES256", "typ": "at+jwt", "kid": "ec"}
    members = json.loads(_bytes(source.token.split(".")[1]))
    return _resigned(_dump(header), _HOSTILE_JSON[1](members, chance))


def _resigned(header: bytes, payload: bytes) -> str:
    signed = f"{_text(header)}.{_text(payload)}"
    return f"{signed}.{_text(JWSRegistry.algorithms['ES256'].sign(signed.encode(), EC_KEY))}"


# -- hostile JSON


def _deep(chance: random.Random) -> bytes:
    depth = chance.choice((10, 200, 1_100, 2_500))
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
    depth = depth if opening == b"[" else depth // 4
    return opening * depth + (b"1" + closing * depth if chance.random() < 0.7 else b"")


_VALUES: Final[tuple[bytes, ...]] = (
    b"null", b"true", b"false", b"0", b"-0", b"-1", b"1", b"1e308", b"1e400", b"-1e400", b"NaN", b"Infinity",
    b"-Infinity", b"1" + b"0" * 400, b"9" * 5_000, b"0.1e-400", b"1.5", b'""', b'"ES256"', b'"none"', b'" "',
    b'"at+jwt"', b'"JWT"', b'"ec"', b'"rsa"', b'"\\ud800"', b'"\\u0000"', b'"\\u202e"', b'"\xef\xbb\xbf"', b'"\xff"',
    b'"\xc3\xa9"', b"[]", b"[[]]", b'["ES256"]', b'["exp"]', b"[null]", b"{}", b'{"a":[]}', b'{"kid":"ec"}',
    b'{"ES256":1}', b'{"jkt":"x"}', b'"' + b"a" * 3_000 + b'"', b"[" + b"0," * 900 + b"0]", b"x", b"", b"'a'",
)  # fmt: skip
_HEADER_NAMES: Final = ("alg", "typ", "kid", "crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty", "ALG")
_CLAIM_NAMES: Final = (
    *("iss", "aud", "sub", "exp", "iat", "nbf", "jti", "client_id", "scope", "cnf", "amr", "auth_time", "sid"),
    *("authorization_details", "azp", "roles", "ISS"),
)


def _hostile(names: tuple[str, ...]) -> Callable[[dict[str, Any], random.Random], bytes]:
    def change(members: dict[str, Any], chance: random.Random) -> bytes:
        raw = {name: _dump(value) for name, value in members.items()}
        name = chance.choice(names)
        pairs = [(key, value) for key, value in raw.items() if key != name]
        value = _deep(chance) if chance.random() < 0.1 else chance.choice(_VALUES)
        match chance.randrange(8):
            case 0:
                pass  # it is missing
            case 1:  # twice: whichever counts, the other may have been what somebody checked
                pairs += [(name, value), (name, raw.get(name, b'"x"'))]
            case 2:
                pairs = [(name, raw.get(name, b'"x"')), *pairs, (name, value)]
            case 3:
                pairs.append((name.upper() if chance.random() < 0.5 else f"{name}\\u0000", value))
            case _:
                pairs.append((name, value))
        text = b"{" + b",".join(b'"' + key.encode() + b'":' + item for key, item in pairs) + b"}"
        match chance.randrange(24):
            case 0:
                return b"\xef\xbb\xbf" + text
            case 1:
                return text.decode("utf-8", "replace").encode(chance.choice(("utf-16", "utf-16-le", "utf-32", "utf-7")))
            case 2:
                return text + chance.choice((b"{}", b"\x00", b" ", b",", b"]"))
            case 3:
                return b"[" + text + b"]"
            case _:
                return text

    return change


_HOSTILE_JSON: Final = (_hostile(_HEADER_NAMES), _hostile(_CLAIM_NAMES))
_WAYS: Final[tuple[Callable[[Source, list[Source], random.Random], str], ...]] = (
    _bits, _letters, _cut, _swapped, _spelled, _decoded_bits, _decoded_bits, _member, _member, _signature, _algorithm,
    _own_key, _signed_header, _signed_claim,
)  # fmt: skip


def _bytes(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
