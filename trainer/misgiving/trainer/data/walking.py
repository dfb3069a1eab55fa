"""The files in a folder and below it, through links too, each folder once."""

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

_ASIDE = {"@eaDir", "__MACOSX", "#recycle", "@Recycle", "$RECYCLE.BIN"}
"""Where NAS boxes, archives and desktops keep thumbnails and what was thrown away."""


@dataclass(frozen=True, slots=True)
class Found:
    """What :func:`find_files` found."""

    files: list[Path] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    """Files that are hidden (``.name``), in caches or in bins."""
    again: list[Path] = field(default_factory=list)
    """Links to folders that were looked into already; so a loop ends."""
    closed: list[Path] = field(default_factory=list)
    """Folders that cannot be read."""


def find_files(folder: Path) -> Found:
    """All files; a folder that is there itself goes before a link to it."""
    found, seen, waiting = Found(), set[tuple[int, int]](), deque([folder])
    while waiting:
        start = waiting.popleft()
        if start.exists() and _identity(start) in seen:
            found.again.append(start)
            continue
        links: list[Path] = []
        for root, folders, names in os.walk(start, onerror=lambda e: _note(found, e)):
            here = Path(root)
            seen.add(_identity(here))
            _sort_files(found, here, names, [name for name in folders if aside(name)])
            taken = [here / name for name in sorted(folders) if not aside(name)]
            links += [path for path in taken if path.is_symlink()]
            folders[:] = [
                path.name for path in taken if not path.is_symlink() and _identity(path) not in seen
            ]
        waiting.extend(links)
    return found


def _sort_files(found: Found, root: Path, names: list[str], folders_aside: list[str]) -> None:
    for name in names:
        (found.aside if aside(name) else found.files).append(root / name)
    for folder in folders_aside:
        for inner, _, hidden in os.walk(root / folder):
            found.aside.extend(Path(inner, name) for name in hidden)


def aside(name: str) -> bool:
    """Whether a file or folder of this name is nobody's picture."""
    return name.startswith(".") or name in _ASIDE


def _note(found: Found, error: OSError) -> None:
    found.closed.append(Path(error.filename))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
