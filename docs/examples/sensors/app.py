"""A fleet of sensors: devices without a browser sign in by a code, report, and are seen on a page.

hybrid serve --app app:app
"""

import math
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from quart import Quart, Response, send_file

from hybrid import Hybrid, Principal

READINGS = "fleet:readings"
ALARMS = "fleet:alarms"
TOO_BUSY_PERCENT = 90
app = Quart(__name__, static_folder=None)
app.config.update(
    HYBRID_DEVELOPMENT_ISSUER=True,  # in real life: HYBRID_ISSUERS, with your own
    HYBRID_NAMESPACES={"fleet": {"subscribe": "anyone", "history_size": 600, "history_ttl_s": 3_600}},
)
hybrid = Hybrid(app)

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,32}$")]
Percent = Annotated[float, Meta(ge=0, le=100)]


@hybrid.authorize("fleet")
def may_watch(principal: Principal, action: str, channel: str) -> bool:
    """Everybody sees the readings; nobody publishes them but `report`."""
    return action == "subscribe"


@hybrid.rpc
async def report(sensor: Name, cpu: Percent, memory: Percent, whom: Principal) -> None:
    """What a sensor has measured. Whose it is says its token, not the sensor."""
    reading = {"sensor": sensor, "owner": whom.subject, "cpu": round(cpu, 1), "memory": round(memory, 1)}
    await hybrid.publish(READINGS, reading)


@app.before_serving
async def begin() -> None:
    app.add_background_task(watch)


async def watch() -> None:
    """Read all that is reported, at this node or another, and say who has become too busy."""
    busy: dict[str, bool] = {}
    async for reading in hybrid.channel(READINGS).subscribe():
        name, cpu = f"{reading.data['owner']}/{reading.data['sensor']}", reading.data["cpu"]
        was, busy[name] = busy.get(name, False), cpu >= TOO_BUSY_PERCENT
        if busy[name] and not was:
            key = f"alarm {reading.cursor}"  # every node watches; the alarm is given once
            await hybrid.publish(ALARMS, {"sensor": name, "cpu": math.floor(cpu)}, key=key)


@app.get("/")
async def page() -> Response:
    return await send_file(Path(__file__).parent / "index.html")
