"""What a supervisor gives a worker on its command line."""

from __future__ import annotations

import os
import socket

import pytest

from hybrid.web.assignment import Assignment


def test_it_comes_back_from_its_text() -> None:
    for directory in ("", "/run/hybrid-1", "/run/with:colon"):
        assert Assignment.parse(str(Assignment(2, 5, 17, directory))) == Assignment(2, 5, 17, directory)


@pytest.mark.parametrize("text", ["", "1", "1:2", "1:2:3", "1:2:x:", "x:2:3:/tmp/a"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Assignment.parse(text)


def test_what_is_taken_does_not_block_and_is_not_inherited() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        descriptor = theirs.detach()
        os.set_inheritable(descriptor, True)
        with Assignment(1, descriptor, descriptor).take_lifeline() as taken:
            assert (taken.getblocking(), taken.get_inheritable()) == (False, False)


def test_what_is_no_socket_is_an_error() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match=r"."):
            Assignment(1, reader, writer).take_listener()
    finally:
        os.close(reader)
        os.close(writer)
