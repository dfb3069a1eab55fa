"""deploy/Dockerfile without Docker: what it says is done here, in folders of the test's own.

What a machine without Docker cannot know is left: the base images, and that files outside
/var/lib/misgiving are read-only. Dependencies are the tests' own; pip builds and installs ours.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from docs.helpers import ROOT, blocks_of
from docs.test_pages import check_extras
from shared.certificates import LOOPBACK, Authority

DOCKERFILE = ROOT / "deploy/Dockerfile"
PLACES = ("/opt/misgiving", "/var/lib/misgiving", "/etc/misgiving")
PACKAGES = Path(grpc.__file__).parents[1]
ENDED_S = 60


def instructions() -> Iterator[tuple[str, str]]:
    """Those of the Dockerfile, each in one line."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line:
            name, _, rest = line.partition(" ")
            yield name, rest


def copied() -> list[str]:
    """What of a checkout is sent to the build."""
    lines = Path(f"{DOCKERFILE}.dockerignore").read_text().splitlines()
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


@dataclass
class Image:
    """What the Dockerfile makes, below a folder instead of ``/``."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)
    """CMD, ENTRYPOINT and HEALTHCHECK."""

    def here(self, text: str) -> str:
        """The text with its paths below the folder."""
        for place in PLACES:
            text = text.replace(place, f"{self.root}{place}")
        return text.replace("-o 10001 -g 10001", f"-o {os.getuid()} -g {os.getgid()}")

    def build(self) -> None:
        """Do what each instruction says."""
        for name, rest in instructions():
            match name:
                case "RUN":
                    self._run(rest)
                case "ARG":
                    key, _, value = rest.partition("=")
                    self.env[key] = value
                case "ENV":
                    for key, value in re.findall(r"(\w+)=(\S+)", rest):
                        self.env[key] = self.here(value).replace("$PATH", self.env["PATH"])
                case "CMD" | "ENTRYPOINT":
                    self.commands[name] = json.loads(self.here(rest))
                case "HEALTHCHECK":
                    self.commands[name] = json.loads(rest.partition(" CMD ")[2])
                case "COPY" if rest == ". .":
                    self._copy()

    def _copy(self) -> None:
        for name in copied():
            source, target = ROOT / name, self.root / "src" / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)

    def _run(self, script: str) -> None:
        script = self.here(script).replace("pip install", "pip install --no-deps --no-compile")
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=self.root / "src",
            env={**os.environ, **self.env},  # an index or a proxy that pip needs
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)

    def started(self, words: list[str]) -> "subprocess.Popen[str]":
        """A command in the container: nothing of this machine's environment but the packages."""
        env = {**self.env, "PYTHONPATH": str(PACKAGES)}
        return subprocess.Popen(
            words,
            executable=shutil.which(words[0], path=self.env["PATH"]),
            cwd=self.root / "var/lib/misgiving",
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def image(tmp_path: Path) -> Image:
    (tmp_path / "src").mkdir()
    image = Image(tmp_path, {"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    image.build()
    return image


def configure(image: Image) -> Path:
    """The guide's misgiving.toml, on a free port of loopback, and certificates."""
    page = (ROOT / "docs/deploy.md").read_text()
    (toml,) = (block.text for block in blocks_of(page) if block.language == "toml")
    folder = image.root / "etc/misgiving"
    folder.mkdir(parents=True)
    text = image.here(toml).replace("0.0.0.0:50051", "127.0.0.1:0").replace(":9464", ":0")
    (folder / "misgiving.toml").write_text(text)
    return Authority.new().issue(folder / "tls", *LOOPBACK)


def test_a_container_serves_and_ends(image: Image) -> None:
    """As the guide runs it: its file, its certificates, its question for health, SIGTERM."""
    tls = configure(image)
    with image.started(image.commands["ENTRYPOINT"] + image.commands["CMD"]) as server:
        assert server.stderr is not None
        try:
            said = (json.loads(line)["message"] for line in server.stderr)
            ready = next(line for line in said if line.startswith("serving "))
            asked = [*image.commands["HEALTHCHECK"], ready.split()[4], "--tls", str(tls)]
            with image.started(asked) as health:
                out, err = health.communicate(timeout=ENDED_S)
            assert (health.returncode, err) == (0, ""), out
            server.send_signal(signal.SIGTERM)
            server.stderr.read()
            assert server.wait(ENDED_S) == 0
        finally:
            server.kill()
    assert (image.root / "var/lib/misgiving/spool").is_dir()
    installed = image.root.glob("opt/misgiving/lib/*/site-packages/misgiving/runtime/__init__.py")
    assert len(list(installed)) == 1


def test_extras_of_the_build_arguments_are_there() -> None:
    text = DOCKERFILE.read_text()
    extras = re.findall(r"EXTRA=(\w+)", text)
    assert extras == ["gpu", "cpu"]
    for extra in extras:
        check_extras(f".[{extra}]")
