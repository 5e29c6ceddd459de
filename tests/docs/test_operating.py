"""The dashboard, the alerts and the page about them name what a real server tells, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.metrics.scrape import Scrape
from tests.support.nodes import ROOT
from tests.support.processes import program
from tests.support.receiver import SECRET as HOOK_SECRET
from tests.support.redis_servers import RedisServer, redis_server
from tests.web.test_serve_workers import SECRET, serving

DASHBOARD = ROOT / "docs" / "grafana" / "hybrid.json"
RULES = ROOT / "docs" / "prometheus" / "hybrid.rules.yml"
PAGE = ROOT / "docs" / "operating.md"
_NAME = re.compile(r"\b((?:hybrid|process)_[a-z0-9_]+|up)\b(?=\s*(?:\{|\[|$|\)|==|>|,))")
_SELECTOR = re.compile(r"((?:hybrid|process)_[a-z0-9_]+)\{([^}]*)\}")
_PROMETHEUS_OWN = {"job", "instance"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Scrape:
    """What two workers on a Redis tell, after somebody was there."""
    directory = tmp_path_factory.mktemp("served")
    (directory / "hybrid.toml").write_text(
        f'broker = "{redis.url}"\nsecret = "{SECRET}"\nworkers = 2\nmetrics = true\nmetrics_networks = ["127.0.0.1"]\n'
        f'hooks = {{ url = "http://127.0.0.1:9/", secrets = ["{HOOK_SECRET}"], tell = ["occupied"] }}\n'
        'namespaces.default = { subscribe = "anyone", publish = "anyone", allow_anonymous_publish = true }\n'
    )
    with serving(directory) as server:
        for _ in range(8):  # both workers, probably
            headers = {"Content-Type": "application/json"}
            urllib.request.urlopen(urllib.request.Request(f"{server.url}/v1/channels/a", b"1", headers)).close()
            events = {"Accept": "text/event-stream"}
            urllib.request.urlopen(urllib.request.Request(f"{server.url}/v1/channels/a", headers=events)).close()
        with urllib.request.urlopen(f"{server.url}/metrics") as answer:
            return Scrape(answer.read().decode())


def dashboard_queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def rules() -> list[dict[str, Any]]:
    found = yaml.safe_load(RULES.read_text())
    return [rule for group in found["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    return [*dashboard_queries(), *(rule["expr"] for rule in rules())]


def test_every_query_names_metrics_that_there_are(told: Scrape) -> None:
    asked = queries()
    assert len(asked) > 60
    named = {name for query in asked for name in _NAME.findall(query)} - {"up"}
    assert len(named) > 40
    assert named - told.names == {"hybrid_transports_tried_total"}, "which clients say, and none has said"


def test_every_label_and_value_that_is_asked_for_is_there(told: Scrape) -> None:
    labels: dict[str, dict[str, set[str]]] = {}
    for sample in told.samples:
        for name, value in sample.labels.items():
            labels.setdefault(sample.name, {}).setdefault(name, set()).add(value)
    for query in queries():
        for name, matchers in _SELECTOR.findall(query):
            for label, _, pattern in re.findall(r'(\w+)(=~|!~|=|!=)"([^"]*)"', matchers):
                if label in _PROMETHEUS_OWN:
                    continue
                values = labels[name][label]
                if label in ("state", "outcome") and not {"connections", "publishes"} & set(name.split("_")):
                    words = re.split(r"\|", pattern)
                    assert all(any(re.fullmatch(word, value) for value in values) for word in words), (query, values)
        for by in re.findall(r"by \(([^)]*)\)", query):
            known = {label for name in _NAME.findall(query) for label in labels.get(name, {})}
            unknown = {label.strip() for label in by.split(",")} - known - _PROMETHEUS_OWN - {"le"}
            assert not unknown or "hybrid_transports_tried_total" in query, query


def test_the_page_explains_every_metric_and_no_other(told: Scrape) -> None:
    explained = set(re.findall(r"^\| `((?:hybrid|process)_[a-z0-9_]+)", PAGE.read_text(), re.MULTILINE))
    exported = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in told.names}
    exported |= {"hybrid_transports_tried_total"}
    assert explained == exported


def test_the_page_speaks_of_every_alert() -> None:
    text = PAGE.read_text()
    assert [rule["alert"] for rule in rules() if f"`{rule['alert']}`" not in text] == []


def test_the_alerts_ring_when_they_should(tmp_path: Path) -> None:
    promtool = program("promtool", package="prometheus")
    shutil.copy(RULES, tmp_path)
    shutil.copy(Path(__file__).with_name("hybrid.rules.test.yml"), tmp_path)
    for command in (["check", "rules", RULES.name], ["test", "rules", "hybrid.rules.test.yml"]):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    promtool = program("promtool", package="prometheus")
    filled = [query.replace("$__rate_interval", "5m") for query in dashboard_queries()]
    recorded = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(filled)]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    done = subprocess.run(
        [promtool, "check", "rules", "panels.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(recorded)} rules found" in done.stdout


def test_panels_do_not_lie_over_each_other() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    places: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        own = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        assert not own & places, panel["title"]
        places |= own
    assert len({panel["id"] for panel in panels}) == len(panels)
