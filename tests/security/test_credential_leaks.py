"""A token or ticket that was shown appears nowhere again: no log (DEBUG too), no error, no repr, no challenge."""

from __future__ import annotations

import logging
import traceback

import pytest

from hybrid.auth.bearer import checked_query, find_credential, www_authenticate
from hybrid.auth.development import DevelopmentIssuer
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.keys import KeyStore, StaticKeys
from hybrid.auth.tickets import Ticket, TicketOffice
from hybrid.broker.memory_tickets import MemoryTicketStore
from hybrid.errors import HybridError
from hybrid.limits import Limits
from hybrid.model import Principal
from tests.support.revocations import nothing_revoked
from tests.support.tokens import AUDIENCE, EC_KEY, ISSUER, OTHER_EC_KEY, HandClock, claims, segment, sign

MARKER = "MarkerThatMustNotBeSeen"


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """All loggers at DEBUG, as an operator looking for a fault would set them."""
    caplog.set_level(logging.DEBUG)


def whole(error: BaseException) -> str:
    """All that an error can show: itself, its repr, its fields, its causes as a log would print them."""
    printed = "".join(traceback.format_exception(error))
    fields = repr(vars(error))
    challenge = www_authenticate(error) if isinstance(error, HybridError) else ""
    return f"{error} {error!r} {fields} {printed} {challenge}"


def bad_tokens() -> list[str]:
    subject = claims(sub=MARKER, scope=f"hybrid:subscribe:{MARKER}")
    return [
        sign(subject, key=OTHER_EC_KEY),
        sign({**subject, "aud": MARKER}),
        sign({**subject, "iss": MARKER}),
        sign({**subject, "exp": 1}),
        sign({**subject, "exp": MARKER}),
        sign({**subject, "sub": MARKER + "\n"}),
        sign({**subject, "scope": f"hybrid:subscribe:{MARKER}*{MARKER}"}),
        sign({**subject, "cnf": MARKER}),
        sign({**subject, "amr": MARKER}),  # the claim's whole value stands in the library's exception
        sign(subject, kid=MARKER),
        sign(subject, typ=MARKER),
        sign(subject, nonce=MARKER, key=OTHER_EC_KEY),
        f"{segment({'alg': MARKER})}.{segment(subject)}.x",
        f"{segment(MARKER.encode())}.{segment(MARKER)}.{MARKER}",
        f"{segment(b'{' + MARKER.encode())}.{segment(subject)}.{MARKER}",
        MARKER,
        f"{MARKER}.{MARKER}.{MARKER}",
        MARKER + "é\ud800",
        MARKER * 1_000,
    ]


def traces(token: str) -> set[str]:
    """The marker, and pieces of the token long enough to be no coincidence."""
    return {MARKER} | {part[-24:] for part in token.split(".") if len(part) >= 24}


async def test_a_refused_token_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    checker = JwtVerifier([IssuerConfig(ISSUER, keys=StaticKeys([EC_KEY]))], AUDIENCE, HandClock(), Limits())
    for token in bad_tokens():
        with pytest.raises(HybridError) as caught:
            await checker.verify(token)
        # The traceback of a test shows the test's own line; what is looked for are values.
        shown = whole(caught.value) + caplog.text + repr(checker)
        assert not [trace for trace in traces(token) if trace in shown]
    assert "token refused" in caplog.text  # so the log was really listening


async def test_an_accepted_token_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    checker = JwtVerifier([IssuerConfig(ISSUER, keys=StaticKeys([EC_KEY]))], AUDIENCE, HandClock(), Limits())
    token = sign(claims(extra=MARKER))
    principal = await checker.verify(token)
    shown = f"{principal!r} {checker!r} {checker._cache!r} {caplog.text}"
    assert not [trace for trace in traces(token) if trace in shown]


async def test_a_failing_key_server_gets_nothing_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    async def fetch(url: str) -> dict[str, object]:
        asked.append(url)
        raise RuntimeError(MARKER)

    store = KeyStore(ISSUER, fetch, HandClock(), jwks_url=f"{ISSUER}/keys")
    checker = JwtVerifier([IssuerConfig(ISSUER, keys=store)], AUDIENCE, HandClock(), Limits())
    token = sign(claims(sub=MARKER), kid=MARKER)
    with pytest.raises(HybridError) as caught:
        await checker.verify(token)
    await checker.close()
    assert asked == [f"{ISSUER}/keys"]
    assert "cannot get the keys" in caplog.text
    assert MARKER not in caplog.text
    assert not [trace for trace in traces(token) if trace in whole(caught.value)]


async def test_a_malformed_header_or_query_is_not_quoted() -> None:
    for value in (f"Bearer {MARKER} x", f"Basic {MARKER}", f"{MARKER}=", f"Bearer {MARKER}\xff"):
        with pytest.raises(HybridError) as caught:
            find_credential([(b"authorization", value.encode("latin-1"))])
        assert MARKER not in whole(caught.value)
    for query in (f"access_token={MARKER}", f"jwt={MARKER}&x=%ff", f"x={sign(claims(sub=MARKER))}"):
        with pytest.raises(HybridError) as caught:
            checked_query(query.encode())
        assert MARKER not in whole(caught.value)


async def test_the_development_issuer_does_not_log_what_it_issues(caplog: pytest.LogCaptureFixture) -> None:
    issuer = DevelopmentIssuer("http://127.0.0.1:8000/dev-issuer", AUDIENCE, HandClock())
    fields = {"grant_type": "client_credentials", "client_id": "cli", "subject": MARKER}
    token = issuer.token_answer(fields.items(), {}).body["access_token"]
    assert not [trace for trace in traces(token) if trace in caplog.text + repr(issuer)]


async def test_a_ticket_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    clock = HandClock()
    store = MemoryTicketStore(clock, Limits())
    office = TicketOffice(store, clock, nothing_revoked(clock))
    ticket = Ticket(principal=Principal(issuer="i", subject="s"), purpose="session", origin=None)
    text, _ = await office.issue(ticket)
    shown = f"{office!r} {store!r} {vars(store)!r} {ticket!r}"
    redeemed = await office.redeem_session(text, None)
    with pytest.raises(HybridError) as caught:
        await office.redeem_session(text, None)
    assert text not in f"{shown} {redeemed!r} {whole(caught.value)} {caplog.text}"
