"""Standard Webhooks: the specification's own example, rotation, and what is refused."""

from __future__ import annotations

from base64 import b64encode

import pytest

from hybrid.hooks.signature import TOLERANCE_S, Signer, is_signed, read_secret

# From the specification's repository: libraries in all languages are tested with these.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT_S = 1_614_265_330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEIR = read_secret("whsec_" + b64encode(bytes(32)).decode())


def test_the_example_of_the_specification() -> None:
    headers = Signer([read_secret(SECRET)]).headers(ID, AT_S + 0.9, BODY)
    assert headers == {"webhook-id": ID, "webhook-timestamp": str(AT_S), "webhook-signature": SIGNATURE}
    assert is_signed(headers, BODY, [read_secret(SECRET)], AT_S)


def test_while_a_secret_is_changed_either_will_do() -> None:
    headers = Signer([read_secret(SECRET), HEIR]).headers(ID, AT_S, BODY)
    assert headers["webhook-signature"].split(" ")[0] == SIGNATURE
    for secret in (read_secret(SECRET), HEIR):
        assert is_signed(headers, BODY, [secret], AT_S)
    assert not is_signed(Signer([HEIR]).headers(ID, AT_S, BODY), BODY, [read_secret(SECRET)], AT_S)


@pytest.mark.parametrize(
    ("change", "body", "now_s"),
    [
        ({"webhook-id": "msg_other"}, BODY, AT_S),
        ({"webhook-timestamp": str(AT_S + 1)}, BODY, AT_S),
        ({"webhook-timestamp": "soon"}, BODY, AT_S),
        ({"webhook-timestamp": "\u0661"}, BODY, AT_S),
        ({"webhook-id": ""}, BODY, AT_S),
        ({"webhook-signature": ""}, BODY, AT_S),
        ({"webhook-signature": SIGNATURE.replace("v1,", "v2,")}, BODY, AT_S),
        ({"webhook-signature": "v1,\u00e9"}, BODY, AT_S),
        ({}, BODY + b" ", AT_S),
        ({}, BODY, AT_S + TOLERANCE_S + 1),
        ({}, BODY, AT_S - TOLERANCE_S - 1),
    ],
)
def test_what_was_changed_or_is_old_is_refused(change: dict[str, str], body: bytes, now_s: float) -> None:
    headers = Signer([read_secret(SECRET)]).headers(ID, AT_S, BODY)
    assert not is_signed({**headers, **change}, body, [read_secret(SECRET)], now_s)


@pytest.mark.parametrize("size", [24, 64])
def test_secrets_of_the_lengths_that_are_good(size: int) -> None:
    assert read_secret("whsec_" + b64encode(bytes(size)).decode()) == bytes(size)


SIZES = [f"whsec_{b64encode(bytes(size)).decode()}" for size in (0, 23, 65)]


@pytest.mark.parametrize("text", [b64encode(bytes(32)).decode(), "whsec_!!", "whsec_\u00e9", *SIZES])
def test_other_secrets_are_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="base64|prefix|starts") as caught:  # noqa: RUF043 -- a choice
        read_secret(text)
    assert text not in str(caught.value)
