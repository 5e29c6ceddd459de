"""The client in headless Firefox, driven over WebDriver BiDi, which Firefox speaks by itself."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

from tests.proxy.zoo.animals import Absent, Route
from tests.proxy.zoo.animals.base import executable
from tests.proxy.zoo.drivers.base import LOADING_MAX_S, PATIENCE_S, READY, DriverError, expression, program
from tests.proxy.zoo.origin import PAGE

_NAMES: Final = ("firefox-esr", "firefox")
_PREFERENCES: Final = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}


class Firefox:
    """Implements `Driven`."""

    def __init__(self, connection: ClientConnection, url: str) -> None:
        self.version = ""
        self._connection = connection
        self._url = url
        self._context = ""
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def start(self) -> None:
        """Begin the session, in the tab that is there."""
        wanted = {"alwaysMatch": {"acceptInsecureCerts": True}}
        told = (await self._send("session.new", capabilities=wanted))["capabilities"]
        self.version = f"Firefox {told['browserVersion']}"
        self._context = (await self._send("browsingContext.getTree"))["contexts"][0]["context"]

    async def load(self) -> None:
        try:
            async with asyncio.timeout(LOADING_MAX_S):
                await self._send("browsingContext.navigate", context=self._context, url=self._url, wait="complete")
                await self.evaluate(READY)
        except TimeoutError:
            raise DriverError("the page does not load") from None

    async def open(self, url: str) -> None:
        """Show another page than the course's."""
        await self._send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def call(self, method: str, **arguments: Any) -> Any:
        return await self.evaluate(expression(method, arguments))

    async def tab(self) -> Firefox:
        """Another tab beside this one, in which nothing is loaded yet."""
        made = Firefox(self._connection, self._url)
        made.version, made._ids, made._answers = self.version, self._ids, self._answers
        made._context = (await self._send("browsingContext.create", type="tab"))["context"]
        return made

    async def close(self) -> None:
        """Close the tab."""
        await self._send("browsingContext.close", context=self._context)

    async def change_network(self, change: Callable[[], object]) -> bool:
        change()
        return False  # BiDi has no way to tell it

    async def listen(self) -> None:
        """Take what comes, until the connection ends."""
        async for frame in self._connection:
            message = json.loads(frame)
            answer = self._answers.get(message.get("id"))
            if answer is None or answer.done():
                continue
            if message["type"] == "error":
                answer.set_exception(DriverError(f"{message['error']}: {message['message']}"))
            else:
                answer.set_result(message["result"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(DriverError("Firefox has ended"))

    async def evaluate(self, source: str) -> Any:
        """The JSON-able value of a JavaScript expression, awaited. Raises DriverError."""
        answer = await self._send(
            "script.evaluate",
            expression=f"(async () => JSON.stringify((await {source}) ?? null))()",
            target={"context": self._context},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise DriverError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    async def _send(self, method: str, **parameters: Any) -> Any:
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
            return await answer
        finally:
            self._answers.pop(number, None)


@asynccontextmanager
async def firefox(route: Route, folder: Path) -> AsyncIterator[Firefox]:
    """A browser with an empty profile whose traffic takes the route, that to the loopback included."""
    found = next((path for name in _NAMES if (path := executable(name))), None)
    if found is None:
        raise Absent("needs firefox: no firefox-esr or firefox on the path")
    profile = folder / "profile"
    profile.mkdir()
    preferences = {**_PREFERENCES, **_proxied(route)}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = (found, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0")
    home = {"HOME": str(folder), "MOZ_CRASHREPORTER_DISABLE": "1"}
    async with program(*command, environment=home, stderr=asyncio.subprocess.PIPE) as process:
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            address = await _read_address(process.stderr)
        drained = asyncio.create_task(_drain(process.stderr))
        async with connect(f"{address}/session", max_size=None, proxy=None, ping_interval=None) as connection:
            made = Firefox(connection, route.url + PAGE)
            listening = asyncio.create_task(made.listen())
            try:
                await made.start()
                yield made
            finally:
                for task in (listening, drained):
                    task.cancel()
                await asyncio.wait([listening, drained])


def _proxied(route: Route) -> dict[str, Any]:
    if route.proxy is None:
        return {"network.proxy.type": 0}
    parts = urlsplit(route.proxy)
    return {
        "network.proxy.type": 1,
        "network.proxy.http": parts.hostname,
        "network.proxy.http_port": parts.port,
        "network.proxy.ssl": parts.hostname,
        "network.proxy.ssl_port": parts.port,
        "network.proxy.no_proxies_on": "",
        "network.proxy.allow_hijacking_localhost": True,
    }


async def _read_address(stream: asyncio.StreamReader) -> str:
    said = b"WebDriver BiDi listening on "
    while line := await stream.readline():
        if said in line:
            return line.partition(said)[2].decode().strip()
    raise DriverError("Firefox ended before it listened")


async def _drain(stream: asyncio.StreamReader) -> None:
    """A full pipe would stop the browser."""
    while await stream.read(65_536):
        pass
