"""Bundles as zips: what is packed comes back; what an enemy packed is refused, with no traces."""

import gc
import io
import os
import stat
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from misgiving.runtime.bundles import packing
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.releasing import pack_bundle
from misgiving.runtime.bundles.trust import Trust
from misgiving.runtime.engines.loading import ModelOptions, load
from misgiving.runtime.errors import BundleError, DataError
from runtime.trusting import Fleet
from shared import tiny

FILES = {path.name: path.read_bytes() for path in sorted(tiny.BUNDLE.iterdir())}


@pytest.fixture(autouse=True)
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where zips are unpacked."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("MISGIVING_STATE", str(tmp_path / "state"))
    return folder


def test_a_bundle_comes_back(tmp_path: Path, unpacked: Path) -> None:
    pack_bundle(tiny.BUNDLE, out := tmp_path / "bundle.zip")
    bundle, engine = load(ModelOptions(bundle=out, threads=1))
    assert bundle.digest == Bundle.load(tiny.BUNDLE).digest
    assert engine.provider.kind == "onnxruntime"
    assert {path.name: path.read_bytes() for path in bundle.path.iterdir()} == FILES
    assert [folder.stat().st_mode & 0o777 for folder in unpacked.iterdir()] == [0o700]
    assert bundle.digest[:12] in bundle.path.name
    del bundle
    gc.collect()
    assert list(unpacked.iterdir()) == []  # as long as it is needed, and no longer


def test_packing_is_reproducible_and_overwrites_nothing(tmp_path: Path) -> None:
    first, second = tmp_path / "a.zip", tmp_path / "b.zip"
    pack_bundle(tiny.BUNDLE, first)
    pack_bundle(first, second)  # a zip can be packed again
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(DataError, match="nothing is overwritten"):
        pack_bundle(tiny.BUNDLE, first)
    with pytest.raises(DataError, match="cannot be written"):
        pack_bundle(tiny.BUNDLE, tmp_path / "no" / "c.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "b.zip", "tmp"]


def test_other_tools_zips_are_taken(tmp_path: Path) -> None:
    """Compressed, dated, with rights but no kind of file, as many tools write them."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for name, data in FILES.items():
            out.writestr(name, data)
    assert Bundle.load(tmp_path / "x.zip").manifest.name == "bright-spots"


def test_a_zip_goes_at_the_end_of_the_process(tmp_path: Path, unpacked: Path) -> None:
    pack_bundle(tiny.BUNDLE, out := tmp_path / "bundle.zip")
    code = f"""
from pathlib import Path
from misgiving.runtime.bundles.bundle import Bundle
kept = Bundle.load(Path({str(out)!r}))
assert kept.path.is_dir()
print(kept.path.parent)
raise SystemExit(3)
"""
    env = os.environ | {"TMPDIR": str(unpacked)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (3, str(unpacked), "")
    assert list(unpacked.iterdir()) == []


Entry = tuple[zipfile.ZipInfo | str, bytes]


def zipped(*extra: Entry, without: str = "", compressed: bool = False) -> bytes:
    """A sound bundle's zip with further entries."""
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", kind) as archive:
        warnings.simplefilter("ignore")  # about names that come twice
        for name, data in FILES.items():
            if name != without:
                archive.writestr(name, data)
        for name_or_info, data in extra:
            archive.writestr(name_or_info, data)
    return buffer.getvalue()


def entry(name: str, mode: int = stat.S_IFREG | 0o644, **fields: object) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename, info.external_attr = name, mode << 16
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def other_name(name: bytes, other: bytes) -> bytes:
    """Info-ZIP's field for a name in UTF-8, which newer Pythons take for the file's."""
    return struct.pack("<HHBL", 0x7075, 5 + len(other), 1, zlib.crc32(name)) + other


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def declared(data: bytes, name: bytes, size: int) -> bytes:
    """The table says another unpacked size of a file than what comes."""
    table = data.index(b"PK\1\2")
    while data[table + 46 : table + 46 + len(name)] != name:
        table = data.index(b"PK\1\2", table + 1)
    return data[: table + 24] + struct.pack("<L", size) + data[table + 28 :]


def shifted(data: bytes, by: int) -> bytes:
    """The end says that the table, and so each file, lies elsewhere."""
    (at,) = struct.unpack("<L", data[-6:-2])
    return data[:-6] + struct.pack("<L", at + by) + data[-2:]


def ended(count: int = 3, table_bytes: int = 200, comment: bytes = b"") -> bytes:
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, table_bytes, 0, len(comment))
    return b"\0" * 100 + end + comment


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a parent's folder": (lambda: zipped(("../evil", b"x")), "holds '../evil'"),
    "a parent's folder further in": (lambda: zipped(("a/../../evil", b"x")), "plain file names"),
    "an absolute path": (lambda: zipped(("/tmp/evil", b"x")), "holds '/tmp/evil'"),
    "a drive": (lambda: zipped(("C:evil", b"x")), "holds 'C:evil'"),
    "a backslash": (lambda: zipped(("..\\evil", b"x")), "plain file names"),
    "a folder": (lambda: zipped(("sub/", b"")), "holds 'sub/'"),
    "a file in a folder": (lambda: zipped(("sub/x", b"")), "holds 'sub/x'"),
    "the whole bundle in a folder": (lambda: zipped(("bundle/manifest.json", b"")), "bundle/"),
    "a hidden file": (lambda: zipped((".bashrc", b"x")), "holds '.bashrc'"),
    "a name that ends at a NUL": (
        lambda: patched(zipped(("evil!so", b"x")), b"evil!so", b"evil\0so"),
        "plain file names",
    ),
    "another name in a further field": (
        lambda: zipped((entry("evil", extra=other_name(b"evil", b"../evil")), b"x")),
        "evil",  # older Pythons do not read that field, and the manifest lists no such file
    ),
    "an empty name": (lambda: patched(zipped(("evil", b"x")), b"evil", b"\0vil"), "plain file"),
    "a name without end": (lambda: zipped(("a" * 200, b"x")), "plain file names"),
    "a name that looks like another": (lambda: zipped(("modеl.onnx", b"x")), "plain file"),
    "a symbolic link": (
        lambda: zipped((entry("evil", stat.S_IFLNK | 0o777), b"/etc/passwd")),
        "evil is no regular file but a link",
    ),
    "a device": (lambda: zipped((entry("evil", stat.S_IFCHR | 0o666), b"")), "link or device"),
    "a pipe": (lambda: zipped((entry("evil", stat.S_IFIFO | 0o666), b"")), "link or device"),
    "a name twice": (lambda: zipped(("model.onnx", b"x")), "model.onnx twice"),
    "a name twice but for its case": (lambda: zipped(("MODEL.onnx", b"x")), "MODEL.onnx twice"),
    "too many files": (
        lambda: zipped(*((f"f{i}", b"") for i in range(packing.MAX_FILES))),
        "a zip of 35 files",
    ),
    "more files than its end says": (
        lambda: patched(
            zipped(*((f"f{i}", b"") for i in range(packing.MAX_FILES))),
            struct.pack("<2H", 35, 35),
            struct.pack("<2H", 3, 3),
        ),
        "holds 35 files",
    ),
    "a table without end": (lambda: ended(table_bytes=1 << 31), "in a table of 2147483648 bytes"),
    "a million files": (lambda: ended(count=65535), "a zip of 65535 files"),
    "a zip64": (
        lambda: b"\0" * 100 + b"PK\6\7" + b"\0" * 16 + ended()[100:],
        "a zip64",
    ),
    "a comment, behind which another end may hide": (
        lambda: ended(comment=ended()),
        "is no bundle",
    ),
    "a bomb": (
        lambda: zipped(("bomb", bytes(8 << 20)), compressed=True),
        "bomb unpacks to more than 1,048,576 bytes",
    ),
    "a bomb in the manifest's place": (
        lambda: zipped(("manifest.json", b" " * (8 << 20)), without="manifest.json"),
        "manifest.json unpacks to more than 4,194,304 bytes",
    ),
    "a compressed bomb in the manifest's place": (
        lambda: zipped(
            ("manifest.json", b" " * (8 << 20)), without="manifest.json", compressed=True
        ),
        "manifest.json unpacks to more than 1,048,576 bytes",
    ),
    "a bomb that says it is small": (
        lambda: declared(zipped(("bomb", bytes(8 << 20)), compressed=True), b"bomb", 10),
        "bomb is damaged",
    ),
    "a size beyond all bounds": (
        lambda: declared(zipped(("x", b"1")), b"x", 0xFFFFFFF0),
        "unpacks to 4,29",
    ),
    "an encrypted file": (
        lambda: patched(
            zipped(("evil", b"x")),
            zipped(("evil", b"x"))[-22 - 46 - 4 :][:10],
            zipped(("evil", b"x"))[-22 - 46 - 4 :][:8] + b"\1\0",
        ),
        "encrypted",
    ),
    "bzip2": (
        lambda: zipped((entry("evil", compress_type=zipfile.ZIP_BZIP2), b"x")),
        "compressed in a way that is not taken",
    ),
    "a file that the manifest does not list": (
        lambda: zipped(("evil.so", b"x")),
        "evil.so, which its manifest does not list",
    ),
    "no manifest": (lambda: zipped(without="manifest.json"), "holds no manifest.json"),
    "no graph": (lambda: zipped(without="model.onnx"), "lacks model.onnx"),
    "an altered graph": (
        lambda: zipped(("model.onnx", b"x"), without="model.onnx"),
        "model.onnx has sha256",
    ),
    "cut short": (lambda: zipped()[:-30], "not a zip, or cut short"),
    "a byte of a file": (
        lambda: patched(zipped(), FILES["model.onnx"], FILES["model.onnx"][:-1] + b"?"),
        "model.onnx is damaged",
    ),
    "files before its start": (lambda: shifted(zipped(), 100), "copy it again"),
    "empty": (lambda: b"", "not a zip"),
    "an empty zip": (lambda: ended(0, 0)[100:], "holds no manifest.json"),
    "junk": (lambda: b"junk" * 100, "not a zip"),
    "a table of junk": (lambda: ended(), "is no bundle"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(tmp_path: Path, unpacked: Path, name: str) -> None:
    make, said = HOSTILE[name]
    path = tmp_path / "bundle.zip"
    path.write_bytes(make())
    with pytest.raises(BundleError) as caught:
        Bundle.load(path)
    message = str(caught.value).replace(str(path), "bundle.zip")  # whose folder has the test's name
    assert said in message
    assert "\n" not in message
    assert str(unpacked) not in message
    del caught
    gc.collect()
    assert list(unpacked.iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle.zip", "tmp"]


def test_all_files_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many files that are each within their limit."""
    path = tmp_path / "bundle.zip"
    path.write_bytes(zipped(*((f"f{i}", bytes(1000)) for i in range(9))))
    size = sum(map(len, FILES.values()))
    monkeypatch.setattr(packing, "MAX_BYTES", size + 8_999)
    with pytest.raises(BundleError, match="it unpacks to"):
        Bundle.load(path)


def test_nothing_is_unpacked_before_the_signature_is_checked(
    tmp_path: Path, unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(tmp_path)
    pack_bundle(fleet.bundle, path := tmp_path / "bundle.zip")

    def never(*_: object) -> None:
        pytest.fail("unpacked before it was trusted")

    monkeypatch.setattr(packing.Packed, "unpack", never)
    with pytest.raises(BundleError, match="is not signed"):
        Bundle.load(path, Trust.read(fleet.trusted))


def test_a_full_disk(tmp_path: Path) -> None:
    pack_bundle(tiny.BUNDLE, out := tmp_path / "bundle.zip")
    code = (
        "import resource; from pathlib import Path; "
        "from misgiving.runtime.bundles.bundle import Bundle; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (99, 99)); Bundle.load(Path({str(out)!r}))"
    )
    env = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert "cannot be unpacked: File too large; expected room" in done.stderr.splitlines()[-1]
    assert list((tmp_path / "tmp").iterdir()) == []
