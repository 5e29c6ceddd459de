"""A load process: `python -m hybrid.bench.worker`, started by the coordinator and by nobody else.

The first line of its input is the `Order`, which is how tokens get here without standing on a command line; further
ones are `Say`s. It ends with its input, so that nothing is left when the coordinator is gone.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys

import msgspec

from hybrid.bench.load import Load
from hybrid.bench.messages import Failed, Order, Ready, Say, Told

_READ_BYTES = 1_048_576


def main() -> int:
    """Run until told to leave."""
    encode = msgspec.json.Encoder().encode

    def tell(told: Told) -> None:
        data = encode(told) + b"\n"
        while data:
            data = data[os.write(1, data) :]

    heard = bytearray()
    lines = _lines(heard)
    while not lines:
        part = os.read(0, _READ_BYTES)
        if not part:
            return 2
        heard += part
        lines = _lines(heard)
    order = msgspec.json.decode(lines[0], type=Order)
    raise_descriptors(order.plan.descriptors)
    try:
        load = Load(order, tell)
    except OSError as error:  # a file of certificates that is none
        tell(Failed(f"TLS: {error.strerror or error}"))
        return 2
    # What is made from here on has no cycles but for exceptions, and a collection would be a pause in every latency.
    gc.collect()
    gc.disable()

    def hear(mask: int) -> None:
        part = os.read(0, _READ_BYTES)
        if not part:
            load.is_over = True
            return
        heard.extend(part)
        for line in _lines(heard):
            load.obey(msgspec.json.decode(line, type=Say))

    tell(Ready())
    for line in lines[1:]:
        load.obey(msgspec.json.decode(line, type=Say))
    with contextlib.suppress(BrokenPipeError):
        load.run(0, hear)
    return 0


def raise_descriptors(needed: int) -> None:
    """Raise the soft limit of file descriptors, as far as the hard one lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _lines(heard: bytearray) -> list[bytes]:
    """The whole lines, which are taken out."""
    *lines, rest = bytes(heard).split(b"\n")
    heard[:] = rest
    return lines


if __name__ == "__main__":
    sys.exit(main())
