"""Is there a hybrid server at all?"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from hybrid.client.doctor.finding import Finding, fails, works
from hybrid.client.doctor.words import duration, milliseconds, passed, said_by
from hybrid.client.endpoint import HTTP_ERRORS, Endpoint, read_bounded


async def try_server(endpoint: Endpoint, patience_s: float) -> Finding:
    """Ask for its clock, which it tells to anybody and at any time. Does not raise."""
    clock = asyncio.get_running_loop().time
    began_s = clock()
    try:
        async with asyncio.timeout(patience_s):
            async with endpoint.stream("GET", "/v1/ping", "longpoll", {"Cache-Control": "no-store"}) as answer:
                body = await read_bounded(answer)
    except TimeoutError:
        return fails("server", "unanswered", f"no answer within {patience_s:g} s", *_unused_proxy(endpoint))
    except HTTP_ERRORS as error:
        return fails("server", "unreachable", f"cannot be reached: {said_by(error)}", *_unused_proxy(endpoint))
    took_s = clock() - began_s
    facts = [f"answered in {duration(took_s)}", *passed(answer.headers)]
    if answer.status_code == 200 and isinstance(_json(body).get("at_ms"), int):
        return works("server", *facts, figures={"answer_ms": milliseconds(took_s)})
    told = f"HTTP {answer.status_code} that is not hybrid's: a sign-in page of the network, or another server"
    return fails("server", "foreign", told, *facts)


def _unused_proxy(endpoint: Endpoint) -> list[str]:
    """Where the only way out is a proxy that browsers are told of, this is why they get through and we do not."""
    name = "HTTPS_PROXY" if endpoint.is_secure else "HTTP_PROXY"
    is_set = any(os.environ.get(spelled) for spelled in (name, name.lower(), "ALL_PROXY", "all_proxy"))
    return [f"a proxy is named by {name} here, which hybrid's clients do not use"] if is_set else []


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
