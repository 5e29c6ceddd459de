"""The client in WebKitGTK's MiniBrowser on an X server without a screen, driven over WebDriver."""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.proxy.zoo.animals import Absent, Route
from tests.proxy.zoo.animals.base import executable
from tests.proxy.zoo.drivers.base import LOADING_MAX_S, PATIENCE_S, READY, DriverError, expression, program
from tests.proxy.zoo.origin import PAGE
from tests.support.processes import free_port

_LIBRARIES: Final = ("/usr/lib", "/usr/libexec")
_SCRIPT_MAX_MS: Final = 300_000
_CALL: Final = """
const done = arguments[arguments.length - 1];
(async () => %s)().then((result) => done({ result: result ?? null }), (error) => done({ error: String(error) }));
"""


class WebKit:
    """Implements `Driven`."""

    def __init__(self, http: httpx2.AsyncClient, session: dict[str, Any], url: str) -> None:
        self.version = f"WebKitGTK {session['capabilities']['browserVersion']}"
        self._http = http
        self._path = f"/session/{session['sessionId']}"
        self._url = url
        self._window: str | None = None
        self._turn = asyncio.Lock()  # WebDriver talks to one window at a time

    async def load(self) -> None:
        await self._post("/timeouts", script=_SCRIPT_MAX_MS, pageLoad=int(LOADING_MAX_S * 1_000))
        try:
            async with asyncio.timeout(LOADING_MAX_S):
                async with self._turn:
                    await self._look_at_ours()
                    await self._post("/url", url=self._url)
                await self.evaluate(READY)
        except TimeoutError:
            raise DriverError("the page does not load") from None

    async def open(self, url: str) -> None:
        """Show another page than the course's."""
        async with self._turn:
            await self._look_at_ours()
            await self._post("/url", url=url)

    async def call(self, method: str, **arguments: Any) -> Any:
        return await self.evaluate(expression(method, arguments))

    async def tab(self) -> WebKit:
        """Another tab beside this one, in which nothing is loaded yet."""
        async with self._turn:
            self._window = self._window or await self._get("/window")
            made = copy.copy(self)
            made._window = (await self._post("/window/new", type="tab"))["handle"]
        return made

    async def close(self) -> None:
        """Close the tab."""
        async with self._turn:
            await self._look_at_ours()
            await self._http.delete(f"{self._path}/window")

    async def change_network(self, change: Callable[[], object]) -> bool:
        change()
        return False  # WebDriver has no way to tell it

    async def evaluate(self, source: str) -> Any:
        """The JSON-able value of a JavaScript expression, awaited. Raises DriverError."""
        async with self._turn:
            await self._look_at_ours()
            answer = await self._post("/execute/async", script=_CALL % source, args=[])
        if "error" in answer:
            raise DriverError(answer["error"])
        return answer["result"]

    async def _look_at_ours(self) -> None:
        if self._window is not None:
            await self._post("/window", handle=self._window)

    async def _get(self, path: str) -> Any:
        return (await self._http.get(self._path + path)).json()["value"]

    async def _post(self, path: str, **parameters: Any) -> Any:
        return await _posted(self._http, self._path + path, parameters)


async def _posted(http: httpx2.AsyncClient, path: str, parameters: dict[str, Any]) -> Any:
    try:
        value = (await http.post(path, json=parameters)).json()["value"]
    except (httpx2.HTTPError, ValueError) as error:
        raise DriverError(f"WebKitWebDriver: {error!r}") from None
    if isinstance(value, dict) and "stacktrace" in value:
        raise DriverError(f"{value['error']}: {value['message']}")
    return value


@asynccontextmanager
async def webkit(route: Route, folder: Path) -> AsyncIterator[WebKit]:
    """A browser with an ephemeral memory whose traffic takes the route."""
    driver, screen, browser = executable("WebKitWebDriver"), executable("Xvfb"), _mini_browser()
    if driver is None or browser is None:
        raise Absent("needs webkit: no WebKitWebDriver or no MiniBrowser. On Debian: apt install webkit2gtk-driver")
    if screen is None:
        raise Absent("needs xvfb: no Xvfb on the path")
    port = free_port()
    async with _display(screen) as display:
        environment = {
            "DISPLAY": display,
            "GDK_BACKEND": "x11",
            "GSETTINGS_BACKEND": "memory",
            "HOME": str(folder),
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "NO_AT_BRIDGE": "1",
            **{f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")},
        }
        async with program(driver, f"--port={port}", environment=environment):
            base = f"http://127.0.0.1:{port}"
            async with httpx2.AsyncClient(base_url=base, trust_env=False, timeout=_SCRIPT_MAX_MS / 1_000) as http:
                await _until_ready(http)
                session = await _posted(http, "/session", {"capabilities": _capabilities(route, browser)})
                try:
                    yield WebKit(http, session, route.url + PAGE)
                finally:
                    await http.delete(f"/session/{session['sessionId']}")


def _mini_browser() -> str | None:
    found = (path for folder in _LIBRARIES for path in Path(folder).glob("**/webkit2gtk-4.*/MiniBrowser"))
    return next((str(path) for path in found), None)


def _capabilities(route: Route, browser: str) -> dict[str, Any]:
    # Not by WebDriver's capability "proxy": WebKitGTK speaks TLS to what is named there for https.
    proxy = [] if route.proxy is None else [f"--proxy={route.proxy}"]
    wanted = {
        "acceptInsecureCerts": True,
        "webkitgtk:browserOptions": {"binary": browser, "args": ["--automation", *proxy]},
    }
    return {"alwaysMatch": wanted}


async def _until_ready(http: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                if (await http.get("/status")).json()["value"]["ready"]:
                    return
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _display(path: str) -> AsyncIterator[str]:
    """An X server of its own, on a display that it chooses itself; its name."""
    reading, writing = os.pipe()
    try:
        flags = ("-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp")
        async with program(path, *flags, pass_fds=(writing,)):
            async with asyncio.timeout(PATIENCE_S):
                number = await asyncio.to_thread(os.read, reading, 16)
            yield f":{number.decode().strip()}"
    finally:
        os.close(reading)
        os.close(writing)
