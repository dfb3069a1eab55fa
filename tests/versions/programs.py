"""Programs of the last release and of today, as processes that nothing else tells apart."""

import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ARCHIVE = Path(__file__).with_name("released.tar.xz")
"""Sources of the last release, by ``make released``; its header names their commit."""
ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0

_DISTRIBUTION = {
    "METADATA": "Metadata-Version: 2.1\nName: misgiving\nVersion: 0\n",
    "entry_points.txt": "[misgiving.verbs]\ncollector = misgiving.collector.cli:app\n",
}


@dataclass(frozen=True, slots=True)
class Version:
    """Sources that programs run from, with the libraries of the tests."""

    root: Path

    @property
    def bundle(self) -> Path:
        return self.root / "tests" / "shared" / "tiny_bundle"

    def started(self, *arguments: object) -> "subprocess.Popen[str]":
        """``python ARGUMENTS``; without site, which would add today's sources."""
        paths = [self.root, *(self.root / part for part in ("runtime", "export", "trainer"))]
        paths.append(Path(sysconfig.get_paths()["purelib"]))
        return subprocess.Popen(
            [sys.executable, "-S", *map(str, arguments)],
            env={"PYTHONPATH": ":".join(map(str, paths)), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of ``python ARGUMENTS``."""
        with self.started(*arguments) as process:
            out, err = process.communicate(timeout=DEADLINE_S)
        return process.returncode, out, err

    def said(self, *words: object) -> str:
        """Stdout of ``misgiving WORDS``, which succeeds."""
        code, out, err = self.run("-m", "misgiving", *words)
        assert code == 0, err
        return out

    @contextmanager
    def service(self, *words: object) -> Iterator[str]:
        """``misgiving WORDS`` with its HOST:PORT; ended by a signal, and well."""
        words = (*words, "--listen", "127.0.0.1:0")
        with self.started("-m", "misgiving", *words) as process:
            assert process.stderr is not None
            try:
                heard = []
                for line in process.stderr:
                    heard.append(line)
                    if match := re.search(r" on (\S+:\d+) ", line):
                        break
                else:
                    raise AssertionError("".join(heard))
                yield match[1]
                process.terminate()
                _, err = process.communicate(timeout=DEADLINE_S)
                assert process.returncode == 0, err
            finally:
                process.kill()


TODAY = Version(ROOT)


def unpacked(folder: Path) -> Version:
    """The last release below a folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    about = folder / "misgiving-0.dist-info"
    about.mkdir()
    for name, text in _DISTRIBUTION.items():
        (about / name).write_text(text)
    return Version(folder)
