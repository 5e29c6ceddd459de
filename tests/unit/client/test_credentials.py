"""What `get_token` gives: held to what a header can carry, and never quoted."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from hybrid.client.credentials import Credentials
from hybrid.client.doctor import Examination
from hybrid.client.endpoint import Endpoint
from hybrid.errors import AuthError, SettingsError

NO_TOKENS = ["a-secret\nof-two-lines", "a-secret\r\nX: y", "a-secr\xe9t", "a secret", " a-secret", "a-secret=x", "="]


@pytest.mark.parametrize("given", [*NO_TOKENS, b"a-secret", 12])
async def test_what_is_no_token_is_refused_and_not_quoted(given: Any) -> None:
    credentials = Credentials(lambda: given)
    with pytest.raises(AuthError, match="get_token gave is no token") as caught:
        await credentials.headers()
    assert "secr" not in "".join(traceback.format_exception_only(caught.value))
    with pytest.raises(AuthError):
        await credentials.headers()  # it is not kept either


@pytest.mark.parametrize("given", ["a.b-c_d~e+f/g==", "x"])
async def test_a_token_stands_in_the_header_as_it_is(given: str) -> None:
    assert await Credentials(lambda: given).headers() == {"Authorization": f"Bearer {given}"}


@pytest.mark.parametrize("given", [None, ""])
async def test_no_token_is_no_header(given: str | None) -> None:
    assert await Credentials(lambda: given).headers() == {}


@pytest.mark.parametrize("given", NO_TOKENS)
def test_an_examination_takes_no_other_token_either(given: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Examination(Endpoint("http://127.0.0.1:1"), given)
    assert "secr" not in str(caught.value)
