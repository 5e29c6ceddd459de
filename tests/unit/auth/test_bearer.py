from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.auth.bearer import (
    QUERY_FIELDS_MAX,
    Credential,
    checked_query,
    find_credential,
    shows_proof,
    www_authenticate,
)
from hybrid.errors import AuthError, ChannelError, HybridError, LimitError, ProtocolError

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


def header(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"a"), *((b"authorization", value) for value in values)]


@pytest.mark.parametrize(
    "value", [b"Bearer abc", b"bearer abc", b"BEARER abc", b"Bearer   abc", b" Bearer abc ", b"Bearer abc\t"]
)
def test_the_scheme_is_read_without_case(value: bytes) -> None:
    assert find_credential(header(value)) == Credential("abc")


def test_no_header_is_no_credential() -> None:
    assert find_credential([(b"host", b"a")]) is None


@pytest.mark.parametrize("token", ["a", "a-._~+/", "abc=", "abc==", JWT])
def test_every_b64token_is_a_token(token: str) -> None:
    assert find_credential(header(b"Bearer " + token.encode())) == Credential(token)


@pytest.mark.parametrize(
    "values",
    [
        (b"Bearer a", b"Bearer a"),
        (b"Bearer a", b"Basic b"),
        (b"",),
        (b"Bearer",),
        (b"Bearer ",),
        (b"Bearer a b",),
        (b"Bearer a, Bearer b",),
        (b"Bearer a,b",),
        (b"Bearer =",),
        (b"Bearer a=b",),
        (b"Bearer \xff",),
        (b"Bearer a\n",),
        (b"Bear\xe9r a",),
        (b"Bearer\ta",),
        (b"Bearer: a",),
    ],
)
def test_two_or_malformed_headers_are_a_bad_request(values: tuple[bytes, ...]) -> None:
    with pytest.raises(AuthError) as caught:
        find_credential(header(*values))
    assert caught.value.row.name == "bad_request"
    assert www_authenticate(caught.value).startswith('Bearer error="invalid_request"')


@pytest.mark.parametrize("value", [b"Basic YTpi", b"Negotiate", b"token abc"])
def test_other_schemes_are_no_credential_here(value: bytes) -> None:
    with pytest.raises(AuthError) as caught:
        find_credential(header(value))
    assert caught.value.row.name == "unauthorized"
    assert www_authenticate(caught.value) == "Bearer"


def test_a_proof_comes_with_its_scheme() -> None:
    assert find_credential([*header(b"dpop abc"), (b"dpop", b" a.b.c ")]) == Credential("abc", "a.b.c")
    assert find_credential([*header(b"Bearer abc"), (b"dpop", b"a.b.c")]) == Credential("abc")  # it proves nothing then
    for proofs in ([], [b"a.b.c", b"a.b.c"]):
        with pytest.raises(AuthError) as caught:
            find_credential([*header(b"DPoP abc"), *((b"dpop", proof) for proof in proofs)])
        assert caught.value.row.name == "proof_refused"
        assert www_authenticate(caught.value).startswith('DPoP error="invalid_dpop_proof", error_description="')
        assert 'algs="ES256 ' in www_authenticate(caught.value)


def test_who_uses_dpop_is_answered_in_its_terms() -> None:
    assert shows_proof(header(b"DPoP abc"))
    assert not shows_proof(header(b"Bearer abc"))
    challenge = www_authenticate(AuthError("token_refused"), with_proof=True)
    assert challenge.startswith('DPoP error="invalid_token", ')


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=2), st.booleans())
def test_no_header_does_anything_but_give_a_token_or_an_auth_error(values: list[bytes], with_scheme: bool) -> None:
    try:
        found = find_credential(header(*((b"Bearer " if with_scheme else b"") + value for value in values)))
    except AuthError:
        return
    else:
        assert found is not None
        assert found.proof is None
        assert found.token.isascii()
        assert " " not in found.token


@pytest.mark.parametrize(
    "query",
    [
        "access_token=x",
        "a=1&access_token=",
        "ACCESS_TOKEN=x",
        "%61ccess_token=x",
        "token=x",
        "jwt=x",
        "bearer=x",
        "auth=x",
        "authorization=Bearer+x",
        "id_token=x",
        f"x={JWT}",
        f"x=Bearer%20{JWT}",
        f"x={JWT.replace('.', '%2E')}",
        f"{JWT}",
        f"{JWT}=1",
        "x=" + JWT.rpartition(".")[0] + ".",
        "&".join(f"a{n}=1" for n in range(QUERY_FIELDS_MAX + 1)),
    ],
)
def test_a_token_in_the_query_is_a_bad_request_that_does_not_quote_it(query: str) -> None:
    with pytest.raises(AuthError) as caught:
        checked_query(query.encode())
    assert caught.value.row.name == "bad_request"
    assert JWT not in f"{caught.value} {caught.value!r} {www_authenticate(caught.value)}"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "ticket=" + "A" * 43,
        "name=a&name=b&after=chat%253A1=k3f9-42-9c1d07aa,news=0",
        "after=k3f9-42-9c1d07aa&wait=25",
        "name=eyJ.a.b",
        "tokens=1",
        "name=a.b.c",
        "&".join(f"name={n}" for n in range(QUERY_FIELDS_MAX)),
        "%ff%00=%c3",
    ],
)
def test_our_own_queries_pass(query: str) -> None:
    checked_query(query.encode())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AuthError("unauthorized"), "Bearer"),
        (
            AuthError("token_refused"),
            'Bearer error="invalid_token", error_description="The token is not accepted here."',
        ),
        (
            AuthError("token_expired", "Over."),
            'Bearer error="invalid_token", error_description="Over."',
        ),
        (
            ChannelError("forbidden", "No."),
            'Bearer error="insufficient_scope", error_description="No."',
        ),
        (
            AuthError("forbidden", "No.", scope="hybrid:subscribe:a hybrid:publish:a"),
            'Bearer error="insufficient_scope", error_description="No.", scope="hybrid:subscribe:a hybrid:publish:a"',
        ),
        (AuthError("keys_unavailable"), ""),
        (AuthError("origin_refused"), ""),
        (ChannelError("not_offered"), ""),
        (ProtocolError("bad_request"), ""),
        (LimitError("x"), ""),
        (HybridError(), ""),
    ],
)
def test_the_challenge_follows_rfc_6750(error: HybridError, expected: str) -> None:
    assert www_authenticate(error) == expected


def test_resource_metadata_is_added_and_quotes_cannot_break_out() -> None:
    url = "https://a.example/.well-known/oauth-protected-resource"
    assert www_authenticate(AuthError("unauthorized"), resource_metadata=url) == f'Bearer resource_metadata="{url}"'
    evil = AuthError("forbidden", 'x", realm="\\y\r\nSet-Cookie: é')
    assert www_authenticate(evil) == (
        'Bearer error="insufficient_scope", error_description="x\\", realm=\\"\\\\ySet-Cookie: "'
    )
