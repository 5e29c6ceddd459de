"""What nodes tell each other: only from a node that knows the secret, to the one it is for, and once."""

from __future__ import annotations

import msgspec
import pytest

from hybrid.model import Grant, Principal
from hybrid.protocol.control import Answer, Ask, ControlCodec, Moved

KEY = b"k" * 32
ALICE = Principal(issuer="i", subject="alice", grants=(Grant("subscribe", "chat:*"),), token_hash=b"\x00\xff")
ASK = Ask(7, "b.session", ALICE, b'{"method":"subscribe"}', 3)


def codecs() -> tuple[ControlCodec, ControlCodec]:
    return ControlCodec(KEY, "a"), ControlCodec(KEY, "b")


@pytest.mark.parametrize("message", [ASK, Answer(7, b'{"id":1}'), Answer(8), Moved("b.session", ALICE, 4)])
def test_a_message_arrives_as_it_was_sent(message: Ask | Answer | Moved) -> None:
    a, b = codecs()
    assert b.open(a.seal("b", message)) == ("a", message)


def test_a_token_without_an_end_travels() -> None:
    a, b = codecs()
    opened = b.open(a.seal("b", Ask(1, "b.s", Principal(issuer="", subject=""), b"{}")))
    assert opened is not None
    assert isinstance(opened[1], Ask)
    assert opened[1].principal.expires_at_s == float("inf")


def test_who_does_not_know_the_secret_is_not_heard() -> None:
    _, b = codecs()
    assert b.open(ControlCodec(b"x" * 32, "a").seal("b", ASK)) is None


def test_one_changed_byte_breaks_the_seal() -> None:
    a, _ = codecs()
    sealed = a.seal("b", ASK)
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes((sealed[place] ^ 1,)) + sealed[place + 1 :]
        assert ControlCodec(KEY, "b").open(changed) is None


def test_a_message_for_another_node_is_not_heard() -> None:
    a, b = codecs()
    assert b.open(a.seal("c", ASK)) is None


def test_a_message_is_heard_once_and_an_older_one_not_behind_it() -> None:
    a, b = codecs()
    first, second = a.seal("b", ASK), a.seal("b", Answer(1))
    assert b.open(second) is not None
    assert b.open(second) is None
    assert b.open(first) is None
    assert b.open(a.seal("b", ASK)) is not None


def test_a_message_to_a_former_life_is_not_heard_by_the_next() -> None:
    """A node draws its id anew at each start, and that is what a message is sealed for."""
    a, _ = codecs()
    assert ControlCodec(KEY, "b-again").open(a.seal("b", ASK)) is None


def test_counts_are_per_sender_and_bounded() -> None:
    b = ControlCodec(KEY, "b")
    for number in range(1_100):
        assert b.open(ControlCodec(KEY, f"a{number}").seal("b", Answer(1))) is not None
    assert len(b._heard) == 1_024


@pytest.mark.parametrize("noise", [b"", b"x", b"x" * 32, b"x" * 500])
def test_noise_is_not_heard(noise: bytes) -> None:
    assert ControlCodec(KEY, "b").open(noise) is None


def test_a_kind_of_a_later_version_is_ignored() -> None:
    a, b = codecs()

    class Later(msgspec.Struct, tag="later"):
        what: int

    assert b.open(a.seal("b", Later(1))) is None  # type: ignore[arg-type]
    assert b.open(a.seal("b", ASK)) is not None


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        ControlCodec(b"short", "a")
