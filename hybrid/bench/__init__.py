"""The load test: `hybrid bench`. See `docs/bench.md` for what it measures and what not.

    coordinator --order--> load process (one or many: `worker`) --ticks--> coordinator --> `Result` --> report, JSON

A load process is one thread around one poll (`load`), not asyncio: a client costs it a socket and two numbers for each
channel. What the clients get is read once for each distinct piece of bytes (`reading`), however many clients get it,
and still every offset of every client is checked (`subscriber`, `tracking`).
"""
