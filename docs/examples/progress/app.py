"""A long job that tells how far it is: whoever comes, or comes back, sees what was and then what comes.

hybrid serve --app app:app
"""

import asyncio
import math
import secrets
from pathlib import Path

from quart import Quart, Response, request, send_file

from hybrid import Hybrid

STEPS = 100
LIMIT_MAX = 300_000_000
JOBS_MAX = 4
app = Quart(__name__, static_folder=None)
# Whoever knows the name of a job may watch it; names cannot be guessed.
app.config["HYBRID_NAMESPACES"] = {"job": {"subscribe": "anyone", "history_size": STEPS + 1, "history_ttl_s": 3_600}}
hybrid = Hybrid(app)
running: set[str] = set()


@app.post("/jobs")
async def start() -> tuple[dict[str, str], int]:
    """Begin to count the primes below `limit`; the answer names the job, whose channel tells the rest."""
    limit = (await request.form).get("limit", 100_000_000, type=int)
    if not 2 <= limit <= LIMIT_MAX:
        return {"error": f"limit lies between 2 and {LIMIT_MAX:,}"}, 400
    if len(running) >= JOBS_MAX:
        return {"error": "enough is being counted already; try again in a moment"}, 503
    job = secrets.token_urlsafe(12)
    running.add(job)
    app.add_background_task(count, job, limit)
    return {"job": job}, 202


async def count(job: str, limit: int) -> None:
    """The work, in `STEPS` slices, each in a thread; one publication behind each."""
    channel = hybrid.channel(f"job:{job}")
    found = 0
    try:
        for step in range(STEPS):
            low, high = limit * step // STEPS, limit * (step + 1) // STEPS
            found += await asyncio.to_thread(primes_between, low, high)
            await channel.publish({"done": step + 1, "of": STEPS, "below": high, "found": found}, key=f"step {step}")
    finally:
        running.discard(job)


def primes_between(low: int, high: int) -> int:
    """How many primes lie in [low, high): the sieve of Eratosthenes, for one slice."""
    sieve = bytearray([1]) * (high - low)
    for small in range(max(low, 0), min(2, high)):
        sieve[small - low] = 0
    for factor in range(2, math.isqrt(max(high - 1, 0)) + 1):
        first = max(factor * factor, -(-low // factor) * factor) - low
        sieve[first::factor] = bytes(len(range(first, high - low, factor)))
    return sieve.count(1)


@app.get("/")
async def page() -> Response:
    return await send_file(Path(__file__).parent / "index.html")
