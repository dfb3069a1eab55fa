"""The files in deploy/ for the fleet side: valid by their schemas, and what they run is ours."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs.helpers import ROOT, parse

COMPOSE = ROOT / "deploy/compose.yaml"
KUBERNETES = ROOT / "deploy/kubernetes.yaml"


def commands() -> list[list[str]]:
    """The arguments of each container of our image."""
    services = yaml.safe_load(COMPOSE.read_text())["services"].values()
    of_compose = [one["command"] for one in services if one["image"].startswith("misgiving:")]
    pods = [
        document["spec"]["template"]["spec"]
        for document in yaml.safe_load_all(KUBERNETES.read_text())
        if "template" in document["spec"]
    ]
    containers = [container for pod in pods for container in pod["containers"]]
    ours = [one["args"] for one in containers if one["image"].startswith("misgiving:")]
    return [*of_compose, *ours]


def problems(*validator: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *validator], capture_output=True, text=True, timeout=240
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


COMPOSE_SCHEMA = ("check_jsonschema", "--builtin-schema", "vendor.compose-spec")
KUBERNETES_SCHEMA = ("kubernetes_validate", "--strict", "--quiet")


@pytest.mark.parametrize(
    ("validator", "file", "key"),
    [(COMPOSE_SCHEMA, COMPOSE, "healthcheck:"), (KUBERNETES_SCHEMA, KUBERNETES, "replicas:")],
)
def test_a_file_is_what_its_schema_asks_for(
    validator: tuple[str, ...], file: Path, key: str, tmp_path: Path
) -> None:
    assert problems(*validator, file) == ""
    (wrong := tmp_path / file.name).write_text(file.read_text().replace(key, f"no_{key}"))
    assert f"no_{key[:-1]}" in problems(*validator, wrong)


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_a_container_has_a_command_that_is_understood(arguments: list[str]) -> None:
    parse(["misgiving", *arguments])
