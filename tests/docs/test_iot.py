"""The commands and the MicroPython programs of docs/iot.md, run exactly as they are printed but for the port."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hybrid.auth.development import FULL_SCOPE
from hybrid.settings import Settings
from tests.foreign.outsiders import MICRO, micropython
from tests.support.bytewise import call
from tests.support.certificates import Certificate, make_certificate
from tests.support.nodes import ROOT
from tests.support.processes import free_port
from tests.support.processes import program as find_program
from tests.support.server import new_issuer, running_server, settings_for
from tests.web.test_js_client import serving

PAGE = (ROOT / "docs" / "iot.md").read_text()
PATIENCE_S = 30.0


def cpython() -> str:
    return sys.executable


PYTHONS: list[Callable[[], str]] = [cpython, micropython]


def blocks(language: str, section: str = "") -> list[str]:
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0] if section else PAGE
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


async def output(*command: str, folder: Path, has_notes: bool = False, **environment: str) -> str:
    """What a program says that must end well, and say nothing of errors but, where it `has_notes`, by the way."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (out + error).decode()
    assert has_notes or not error, error.decode()
    return out.decode()


@pytest.mark.parametrize("section", ["curl", "busybox wget"])
async def test_the_commands(section: str, tmp_path: Path) -> None:
    for tool in ("bash", "curl", section.split()[0]):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}: apt install {tool}")
    port = free_port()
    setup, *rest = blocks("sh", "curl")
    commands = rest if section == "curl" else blocks("sh", section)
    script = "\n".join(["set -eu", setup, *commands]).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    # As installed: `hybrid` on the path, of this checkout.
    script = f'hybrid() {{ "{sys.executable}" -m hybrid "$@"; }}\n{script}'
    script = script.replace("hybrid token |", f"hybrid token --url http://127.0.0.1:{port} |")
    async with serving(Settings(development_issuer=True, port=port), port):
        said = await output("bash", "-c", script, folder=tmp_path, has_notes=True, PYTHONPATH=str(ROOT))
    if section == "curl":
        assert said.count('"offset":1') == 3
        assert said.count('{"celsius":21.5}') + said.count('{"celsius": 21.5}') == 3
        assert "\nid: " in said
    else:
        assert said.count("door opened") == 2
        assert "\nid: " in said


@asynccontextmanager
async def board(tmp_path: Path) -> AsyncIterator[Path]:
    """A folder that holds what is copied to a board."""
    shutil.copy(MICRO / "hybrid_micro.py", tmp_path)
    yield tmp_path


def program(number: int, port: int, token: str, folder: Path) -> str:
    """The file of one of the page's programs."""
    file = folder / f"program{number}.py"
    source = blocks("micropython")[number].replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    file.write_text(f"TOKEN = {token!r}\n{source}")
    return file.name


@pytest.mark.parametrize("python", PYTHONS)
async def test_the_programs_for_micropython(python: Callable[[], str], tmp_path: Path) -> None:
    executable = python()
    assert len(blocks("micropython")) == 3
    async with running_server(settings_for()) as server, board(tmp_path) as folder:
        files = [program(number, server.port, server.token(), folder) for number in range(3)]
        assert await output(executable, files[0], folder=folder) == "published 1\n"
        await server.engine.publish("commands:kitchen", "on")
        cursor = await output(executable, files[2], folder=folder)
        assert cursor == "do lights out\nthen after True\n"
        (folder / "last_id").write_text("0")
        await server.engine.publish("commands:kitchen", "ä" * 4_000)
        await server.engine.publish("commands:kitchen", "stop")
        expected = "do on\ndo lights out\none was too large for this device\ndo stop\n"
        assert await output(executable, files[1], folder=folder) == expected
        (folder / "last_id").write_text("zzzz-7-00000000")
        taking = asyncio.create_task(output(executable, files[1], folder=folder))
        while not server.engine.hub.stats().live_links:  # noqa: ASYNC110 -- nothing tells that it has begun
            await asyncio.sleep(0.01)
        await server.engine.publish("commands:kitchen", "stop")
        assert await taking == "some were lost\ndo stop\n"
        assert (folder / "last_id").read_text().split("-")[1] == "5"


REFUSED = """
import sys
from hybrid_micro import Hybrid, Refused
tokens = ["stale", "stale", "stale"]
hybrid = Hybrid("http://127.0.0.1:PORT", lambda: tokens.pop())
for go in (lambda: next(hybrid.events("news")), lambda: hybrid.publish("news", 1)):
    try:
        go()
    except Refused as refused:
        print(refused.status, refused.number, len(tokens))
    tokens = ["stale", "stale", "stale"]
try:
    Hybrid("http://127.0.0.1:PORT", TOKEN).publish("news", 1, type="not a type")
except Refused as refused:
    print(refused.status, refused.number)
print(Hybrid("http://127.0.0.1:PORT", TOKEN).publish("news", b"\\x00\\xff", type="bytes", key="k")["offset"])
print(Hybrid("http://127.0.0.1:PORT", TOKEN).publish("news", b"\\x00\\xff", type="bytes", key="k")["offset"])
"""


@pytest.mark.parametrize("python", PYTHONS)
async def test_refusals_end_it_and_stale_tokens_are_asked_for_once_more(
    python: Callable[[], str], tmp_path: Path
) -> None:
    executable = python()
    async with running_server(settings_for()) as server, board(tmp_path) as folder:
        (folder / "t.py").write_text(f"TOKEN = {server.token()!r}\n" + REFUSED.replace("PORT", str(server.port)))
        said = await output(executable, "t.py", folder=folder)
    assert said == "401 4501 1\n401 4501 1\n400 3400\n1\n1\n"


ROUGH = """
import hybrid_micro
hybrid_micro.RETRY_S = hybrid_micro.RETRY_MAX_S = 0.01
hybrid = hybrid_micro.Hybrid("http://127.0.0.1:PORT", None, event_max=64)
seen = []
for event in hybrid.events("news"):
    seen.append([event.id, event.type, event.data])
    if event.data == "end":
        break
print(seen)
print(hybrid.publish("news", 1, tries=3))
"""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Long: " + b"x" * 2_000 + b"\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x;ext=1\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("python", PYTHONS)
async def test_a_rough_network(python: Callable[[], str], tmp_path: Path) -> None:
    """An event that is cut in the middle does not count, however it is cut; nor does what is no HTTP, or no JSON."""
    executable = python()
    answers = [
        (b"garbage", ""),
        (b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", ""),
        (CHUNKED + chunk(b": " + b"p" * 3_000 + b"\n\nretry: 1\nid: 1\ndata: 1\n\nid: 2\nda") + chunk(b"ta: 2\n"), ""),
        (HEAD + b"\r\nid: 2\r\nevent: t\r\ndata: [2,\r\ndata: 3]\r\n\r\nid: 3\n\nid: 4\ndata: {\n\n", "1"),
        (CHUNKED + chunk(b"id: 4\ndata: " + b"9" * 100 + b"\n\n") + b"zz\r\n", "3"),
        (CHUNKED + chunk(b'id: 5\ndata: "end"\n\n') + b"0\r\n\r\n", "4"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{", None),
        (b"HTTP/1.1 502 X\r\nContent-Length: 0\r\n\r\n", None),
        (b'HTTP/1.1 200 X\r\nContent-Length: 12\r\n\r\n{"offset":7}', None),
    ]
    keys = []
    wrong = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        answer, last_id = answers.pop(0)
        if last_id is None:
            keys.append(headers["Idempotency-Key"])
            await reader.readexactly(int(headers["Content-Length"]))
        elif headers.get("Last-Event-ID", "") != last_id:
            wrong.append((last_id, headers))
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with board(tmp_path) as folder, await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (folder / "t.py").write_text(ROUGH.replace("PORT", str(port)))
        said = (await output(executable, "t.py", folder=folder)).splitlines()
    seen = [["1", "message", 1], ["2", "t", [2, 3]], ["4", "hybrid.too_large", None], ["5", "message", "end"]]
    assert said == [str(seen), "{'offset': 7}"]
    assert (wrong, answers, len(set(keys))) == ([], [], 1)


def der(made: Certificate) -> bytes:
    pem = Path(made.certificate).read_bytes()
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


@pytest.mark.parametrize("python", PYTHONS)
async def test_tls_trusts_the_certificate_it_was_given_and_no_other(python: Callable[[], str], tmp_path: Path) -> None:
    executable = python()
    ours, other = make_certificate(tmp_path / "a"), make_certificate(tmp_path / "b")
    for name, made in (("ours", ours), ("other", other)):
        (tmp_path / f"{name}.der").write_bytes(der(made))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours.certificate, ours.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 X\r\nContent-Length: 12\r\n\r\n{"offset":7}')
        await writer.drain()
        writer.close()

    async with board(tmp_path) as folder, await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        lines = ["from hybrid_micro import Hybrid"]
        for name in ("ours", "other"):
            made = f"Hybrid('https://localhost:{port}', ca=open('{name}.der', 'rb').read())"
            lines += ["try:", f"    print({made}.publish('news', 1, tries=1))", "except OSError:", "    print('no')"]
        (folder / "t.py").write_text("\n".join(lines))
        said = await output(executable, "t.py", folder=folder)
    assert json.loads(said.splitlines()[0].replace("'", '"')) == {"offset": 7}
    assert said.splitlines()[1] == "no"


async def sketch(port: int, folder: Path) -> Path:
    """The page's sketch as a program of this machine, with stand-ins for the board's classes that speak real HTTP."""
    compiler = find_program("g++")
    [text] = blocks("cpp", "Arduino (ESP32)")
    (folder / "sketch.h").write_text(text.replace("192.168.1.10:8000", f"127.0.0.1:{port}"))
    made = folder / "sketch"
    stand_ins = ROOT / "tests" / "docs" / "arduino"
    options = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{stand_ins}", f"-I{folder}"]
    await output(compiler, *options, str(stand_ins / "main.cpp"), "-o", str(made), folder=folder)
    return made


async def test_the_sketch_for_a_board_publishes_once_however_often_it_tries(tmp_path: Path) -> None:
    async with running_server(settings_for()) as server:
        sends = await sketch(server.port, tmp_path)
        for reading, key in (("21.5", "a"), ("21.5", "a"), ("22", "b")):
            await output(str(sends), reading, key, folder=tmp_path, TOKEN=server.token())
        page = await call(server, "GET", "/v1/history/sensors:kitchen", server.bearer())
        assert [item["data"] for item in json.loads(page.body)["publications"]] == [21.5, 22]
        for token in ("stale", server.token(scope="hybrid:subscribe:*")):
            process = await asyncio.create_subprocess_exec(sends, "1", "c", env={**os.environ, "TOKEN": token})
            assert await process.wait() == 1, "it would be refused again"


async def test_the_sketch_for_a_board_tries_again_until_the_server_is_there(tmp_path: Path) -> None:
    port, issuer = free_port(), new_issuer()
    sends = await sketch(port, tmp_path)
    token = issuer.mint("kitchen", FULL_SCOPE)
    has_tried = asyncio.Event()

    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        has_tried.set()

    async with await asyncio.start_server(hang_up, "127.0.0.1", port):
        publishing = asyncio.create_task(output(str(sends), "7", "k", folder=tmp_path, TOKEN=token))
        await has_tried.wait()
    async with running_server(settings_for(), issuer=issuer, port=port) as server:
        await publishing
        page = await call(server, "GET", "/v1/history/sensors:kitchen", server.bearer())
        assert [item["data"] for item in json.loads(page.body)["publications"]] == [7]


async def test_what_home_assistant_is_told_to_ask_and_to_make_of_the_answers() -> None:
    """Its part is played by Jinja2's sandbox, in which its templates run, and by the requests of its settings."""

    class Loader(yaml.SafeLoader):
        pass

    async with running_server(settings_for()) as server:
        Loader.add_constructor("!secret", lambda loader, node: server.bearer()["Authorization"])
        [text] = blocks("yaml", "Home Assistant")
        config = yaml.load(text, Loader)

        def rendered(template: str, **values: object) -> str:
            templates = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
            return templates.from_string(template).render(now=datetime.now, **values)

        def target(url: str) -> str:
            parts = urlsplit(url)
            return f"{parts.path}?{parts.query}" if parts.query else parts.path

        [asked] = config["rest"]
        [sensor] = asked["sensor"]
        states = []
        for reading in (None, {"celsius": 21.5}, {"celsius": -3}):
            if reading is not None:
                await server.engine.publish("sensors:kitchen", reading)
            answer = await call(server, "GET", target(asked["resource"]), asked["headers"])
            assert answer.status == 200
            states.append(rendered(sensor["value_template"], value_json=json.loads(answer.body)))
        assert states == ["None", "21.5", "-3"]

        command = config["rest_command"]["kitchen_light"]
        keys = set()
        for state in ("on", "off"):
            headers = {name: rendered(value) for name, value in command["headers"].items()}
            keys.add(headers["Idempotency-Key"])
            headers["Content-Type"] = command["content_type"]
            payload = rendered(command["payload"], state=state).encode()
            answer = await call(server, command["method"].upper(), target(command["url"]), headers, payload)
            assert answer.status == 200
        assert len(keys) == 2
        page = await call(server, "GET", "/v1/history/commands:kitchen", server.bearer())
        assert [item["data"] for item in json.loads(page.body)["publications"]] == ["light on", "light off"]
