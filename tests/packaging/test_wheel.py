"""The wheel: whatever the package reads is in it, and it serves from a folder far away from the repository."""

from __future__ import annotations

import configparser
import json
import os
import re
import signal
import site
import subprocess
import sys
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.nodes import ROOT

PATIENCE_S = 60.0
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and paths as POSIX has them")


def run(*command: str | Path, cwd: Path, more: int = 0) -> str:
    """What it says on stdout; fails unless it exits with `more`."""
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == more, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment() -> dict[str, str]:
    """Nothing that leads back to the repository. A registry that pip is told of stays known."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    home = {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}
    return {**kept, **home, "PATH": os.environ["PATH"]}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network: with the backend that is installed here."""
    pytest.importorskip("hatchling", reason="needs hatchling: pip install --group test")
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment that has the wheel, and the libraries of this one.

    A path file names where the libraries are. Path files found there are not followed, so what is installed here as
    editable is not seen.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "bin"


def read_at_run_time() -> dict[str, Path]:
    """By its name in the wheel: whatever the repository keeps of the package and of the static files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "hybrid", "static"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("needs git, and a checkout, to tell which files are the repository's")
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    return {re.sub("^static/", "hybrid/_static/", name): ROOT / name for name in names}


def test_it_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    expected = read_at_run_time()
    for kind in (
        r"\.py",
        r"\.lua",
        r"/templates/.*\.html",
        r"_static/.*\.js",
        r"\.woff2",
        r"/py\.typed",
        r"report\.html",
    ):
        assert any(re.search(f"{kind}$", name) for name in expected), kind
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert held == set(expected)
        assert [name for name in held if archive.read(name) != expected[name].read_bytes()] == []


def test_it_names_its_command_and_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
        entries = configparser.ConfigParser()
        entries.read_string(archive.read(metadata.replace("METADATA", "entry_points.txt")).decode())
    assert dict(entries["console_scripts"]) == {"hybrid": "hybrid.cli:main"}
    required = {name.lower() for name in re.findall(r"^Requires-Dist: ([\w-]+)", text, re.MULTILINE)}
    assert {"quart", "hypercorn", "authlib", "joserfc", "redis", "prometheus-client"} <= required
    assert "Requires-Python: >=3.11" in text


def test_the_command_says_who_it_is(installed: Path, tmp_path: Path) -> None:
    from hybrid import __version__

    assert run(installed / "hybrid", "--version", cwd=tmp_path) == f"hybrid {__version__}\n"
    assert "commands:" in run(installed / "hybrid", "--help", cwd=tmp_path)
    where = run(installed / "python", "-c", "import hybrid; print(hybrid.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent), "the wheel, not the repository"


def test_what_is_read_beside_the_code_is_found(installed: Path, tmp_path: Path) -> None:
    program = """
from importlib.resources import files
from hybrid.broker.redis import scripts
from hybrid.web.static import find_static_root
names = [f.name[:-4] for f in files(scripts).iterdir() if f.name.endswith(".lua")]
print(len(names), (files("hybrid.bench") / "report.html").is_file(), (find_static_root() / "index.html").is_file())
"""
    count, *found = run(installed / "python", "-c", program, cwd=tmp_path).split()
    assert int(count) == len(list((ROOT / "hybrid/broker/redis/scripts").glob("*.lua")))
    assert found == ["True", "True"]


@contextmanager
def serving(program: Path, command: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            [program, command, "--port", "0"],
            cwd=folder,
            env={**environment(), "PYTHONWARNINGS": "error::ResourceWarning"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found, (folder / "log").read_text()
            yield found[0], process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def get(url: str) -> tuple[int, str, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", error.read()


def shows_what_it_should(url: str) -> None:
    """Each kind of thing that is read from a file, over HTTP, and what must be answered by any server."""
    for path, kind in {
        "/static/hybrid/index.js": "text/javascript",
        "/static/hybrid.min.js": "text/javascript",
        "/static/doctor.html": "text/html",
        "/static/demo/fonts/inter-latin.woff2": "font/woff2",
        "/dev-issuer/device": "text/html",
        "/v1/openapi.json": "application/json",
        "/v1/asyncapi.json": "application/json",
        "/v1/ping": "application/json",
    }.items():
        status, media_type, body = get(url + path)
        assert (status, media_type) == (200, kind), path
        assert body, path
        if kind == "application/json":
            json.loads(body)


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_it_serves_and_ends(command: str, installed: Path, tmp_path: Path) -> None:
    with serving(installed / "hybrid", command, tmp_path) as (url, process):
        shows_what_it_should(url)
        if command == "demo":
            status, _, page = get(f"{url}/")
            assert (status, page) == (200, (ROOT / "static/index.html").read_bytes())
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) in (0, 130)
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    assert "ResourceWarning" not in said


@pytest.mark.slow
def test_the_lines_of_the_readme_install_it(tmp_path: Path) -> None:
    """With everything that it needs, from wherever pip gets it."""
    lines = re.search(r"^## Use it\n+```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert lines is not None
    *commands, last = lines[1].strip().splitlines()
    assert (commands[-1], last) == ("pip install .", "hybrid serve")
    make, enter = (line.replace("~/hybrid-venv", str(tmp_path / "venv")) for line in commands[:2])
    assert "python3 -m venv" in make
    make = make.replace("python3", sys.executable)
    script = (
        f"cd {ROOT}\n{make}\n{enter}\npip download --quiet --no-deps -d {tmp_path} certifi || exit 75\npip install ."
    )
    done = subprocess.run(["bash", "-ec", script], env=environment(), capture_output=True, text=True, check=False)
    if done.returncode == 75:
        pytest.skip(f"needs a registry that pip can reach: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    run(tmp_path / "venv/bin/pip", "check", cwd=tmp_path)
    with serving(tmp_path / "venv/bin/hybrid", "serve", tmp_path) as (url, process):
        shows_what_it_should(url)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) in (0, 130)
