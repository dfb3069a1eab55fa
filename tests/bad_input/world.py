"""The folder that the bad commands run in: a little of everything, whole and broken.

Cases name these files as a user would, relative to the working folder, so that every message is
the same on every machine. Nothing may change in it: a command that fails leaves nothing behind.
"""

import json
import shutil
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scipy.io import savemat

from bad_input import config_cases, cycle_cases, fleet_cases, watch_cases
from bad_input.persons_cases import SLIPS
from misgiving.collector.annotations import export_annotations
from misgiving.collector.annotations.coco import Document
from misgiving.collector.annotations.formats import FORMATS
from misgiving.collector.store import Store
from misgiving.runtime.bundles.keys import id_of, read_public
from misgiving.runtime.bundles.releasing import pack_bundle, sign_bundle
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.images import encode_png
from misgiving.runtime.keypoints import LSP
from misgiving.trainer import Compute, open_data
from misgiving.trainer.attaching import attach
from misgiving.trainer.checkpoint import FOREIGN
from misgiving.trainer.config import to_dict
from misgiving.trainer.data.synthetic import open_synthetic
from misgiving.trainer.foreign.net_file import read_net
from misgiving.trainer.pool.pool_scores import score_pool
from shared import small_graphs, tiny
from shared.annotating import edit, touch
from shared.collecting import collected
from shared.once import made_once
from shared.training import TINY, tiny_checkpoint

FILES = config_cases.FILES | cycle_cases.FILES | fleet_cases.FILES | watch_cases.FILES


def build(folder: Path, base: Path) -> None:
    """Fill an empty folder; ``base`` is where a session's tiny checkpoint is trained."""
    for name in ("empty", "bundle-lonely", "bare-lsp", "wrong-lsp", "nan-lsp", "matlab-lsp"):
        (folder / name).mkdir()
    (folder / "notes.txt").write_text("no data\n")
    (folder / "cut.json").write_text('{"model": ')
    for name, text in FILES.items():
        (folder / name).write_text(text)
    _images(folder)
    shutil.copytree(tiny.BUNDLE, folder / "bundle")
    shutil.copytree(tiny_checkpoint(base), folder / "checkpoint")
    _data(folder)
    _collected(folder)
    _altered(folder)
    _trusted(folder)
    _nets(folder, base)
    _detectors(folder / "find")
    savemat(folder / "bare-lsp" / "joints.mat", {"joints": np.ones((3, 14, 20))})
    savemat(folder / "wrong-lsp" / "joints.mat", {"joints": np.ones((14, 3, 20))})
    nan = np.ones((3, 14, 20))
    nan[0, 3, 1] = np.nan
    savemat(folder / "nan-lsp" / "joints.mat", {"joints": nan})
    (folder / "matlab-lsp" / "joints.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(600, b"\0"))


NET = """file = "net.onnx"
licence = "MIT"
keypoints = "lsp14"
padding = 1.25
[input]
colour = "RGB"
mean = 0
std = 255
[output]
family = "heatmaps"
heatmaps = "heat"
layout = "NHWC"
"""


def _nets(folder: Path, base: Path) -> None:
    """A small foreign net, its NET.toml and what can be wrong with either; and heads on it."""
    nets = folder / "nets"
    nets.mkdir()
    slips = {
        "net": ("", ""),
        "lost": ("net.onnx", "lost.onnx"),
        "marked": ('"RGB"', '"RGB?"'),
        "family": ('"heatmaps"\n', '"heat"\n'),
        "output": ('= "heat"', '= "haet"'),
        "tap": ("[input]", 'taps = ["relu"]\n[input]'),
        "simcc": (
            'family = "heatmaps"\nheatmaps = "heat"\nlayout = "NHWC"',
            'family = "simcc"\nx = "heat"\ny = "heat"',
        ),
        "coco": ("lsp14", "coco17"),
        "strange": ('"lsp14"', f"{[f'spot_{i}' for i in range(14)]}"),
        **{name: ("net.onnx", f"{name}.onnx") for name in ("custom", "newer", "nan", "cut")},
    }
    for name, (old, new) in slips.items():
        (nets / f"{name}.toml").write_text(NET.replace(old, new) if old else NET, "utf-8")
    whole = small_graphs.heatmap_net().SerializeToString()
    (nets / "net.onnx").write_bytes(whole)
    (nets / "cut.onnx").write_bytes(whole[:-100])
    for name, made in small_graphs.broken().items():
        (nets / f"{name}.onnx").write_bytes(made.SerializeToString())
    attached = made_once(base / "heads" / "attached", lambda out: _attached(nets, out))
    shutil.copytree(attached, folder / "attached")
    shutil.copytree(attached, folder / "changed-attached")
    with (folder / "changed-attached" / FOREIGN).open("ab") as file:
        file.write(b" ")


def _detectors(folder: Path) -> None:
    """The tiny person detector with a slip in each TOML."""
    shutil.copytree(tiny.DETECTOR.parent, folder)
    whole = tiny.DETECTOR.read_text("utf-8")
    for name, (old, new) in SLIPS.items():
        (folder / f"{name}.toml").write_text(whole.replace(old, new), "utf-8")
    (folder / "cut.onnx").write_bytes((folder / "net.onnx").read_bytes()[:-100])


def _attached(nets: Path, out: Path) -> None:
    net = read_net(nets / "net.toml")
    data, held_out = (
        open_data("synthetic:1,16", net.keypoints),
        open_data("synthetic:2,8", net.keypoints),
    )
    attach(net, data, held_out, out, Compute(device="cpu", threads=1), epochs=1)


def _images(folder: Path) -> None:
    image = encode_png(tiny.spots([10] * 14))
    (folder / "a.png").write_bytes(image)
    (folder / "cut.png").write_bytes(image[:-30])
    (folder / "cut.mp4").write_bytes(b"\0junk" * 100)
    (folder / "recipe.json").write_text(json.dumps(to_dict(TINY) | {"speed": 9}))
    for name, content in {"short": [[1, 2, 3]], "strange": [[1, 2, 3, 4]]}.items():
        (folder / f"{name}.json").write_text(json.dumps({f"{name}.png": content}))


def _data(folder: Path) -> None:
    """Annotations, keypoint sets and scores."""
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [9, 9, 2, 20, 30, 2]}
    parts = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [person]}
    category = {"id": 1, "name": "person"}
    people = parts | {"categories": [category | {"keypoints": ["nose", "chin"]}]}
    (folder / "people.json").write_text(json.dumps(people))
    box = {"bbox": [5, 5, 20, 20]}
    ankle = [person | box | {"keypoints": [9, 9, 2, *([0, 0, 0] * (len(LSP) - 1))]}]
    known = [category | {"keypoints": LSP.names}]
    ankles = parts | {"annotations": ankle, "categories": known}
    (folder / "ankles.json").write_text(json.dumps(ankles))
    turned = [{"id": 1, "file_name": "a.png", "width": tiny.HEIGHT, "height": tiny.WIDTH}]
    (folder / "turned.json").write_text(json.dumps(ankles | {"images": turned}))
    boxes = parts | {"annotations": [], "categories": [category]}
    (folder / "boxes.json").write_text(json.dumps(boxes))
    (folder / "cut.toml").write_text("name = ")
    bone = 'name = "x"\nnames = ["nose", "chin"]\nskeleton = [["nose", "tail"]]\ntorso = []\n'
    (folder / "bone.toml").write_text(bone)
    (folder / "other.csv").write_text("id,name\n1,x\n")
    (folder / "cut.parquet").write_bytes(b"PAR1junk")
    estimator = Estimator.load(folder / "bundle", threads=1)
    score_pool(estimator, open_synthetic(4, 4), folder / "scores.csv")


def _collected(folder: Path) -> None:
    with Store(folder / "store") as store:
        noise = np.random.default_rng(0).integers(0, 255, (140, 160, 3), np.uint8)
        frame = collected("0", image=encode_png(noise))
        store.put(frame.SerializeToString(deterministic=True))
        export_annotations(store, folder / "batch")
    shutil.copytree(folder / "batch", folder / "batch-untouched")
    edit(folder / "batch", touch)


def _altered(folder: Path) -> None:
    """Copies of what is whole, each with one file that is junk."""
    junk = {
        "cut-bundle/model.onnx": "bundle",
        "cut-manifest/manifest.json": "bundle",
        "cut-weights/model.safetensors": "checkpoint",
        "cut-recipe/recipe.json": "checkpoint",
        "cut-record/record.json": "checkpoint",
        "cut-store/store.sqlite": "store",
        "cut-batch/annotations.json": "batch",
        "cut-spool/spool.sqlite": "empty",
        "cut-labels/labels.json": "empty",
        "cut-lsp/joints.mat": "empty",
    }
    for path, whole in junk.items():
        shutil.copytree(folder / whole, (folder / path).parent)
        (folder / path).write_bytes(b"\0junk" * 100)
    for log in (folder / "cut-store").glob("store.sqlite-*"):
        log.unlink()
    _bundles(folder)
    shutil.copytree(folder / "batch", folder / "batch-without-images")
    shutil.rmtree(folder / "batch-without-images" / "images")
    _batches(folder)
    shutil.copytree(folder / "bundle", folder / "bundle-lonely", dirs_exist_ok=True)
    (folder / "bundle-lonely" / "model.onnx").unlink()


def _batches(folder: Path) -> None:
    """Exports as they come back from tools that did something to the images."""
    image = json.loads((folder / "batch" / "annotations.json").read_text())["images"][0]
    changes = {
        "batch-turned": {"width": 140, "height": 160},
        "batch-renamed": {"file_name": "frame_1.png"},
    }
    for name, change in changes.items():
        shutil.copytree(folder / "batch", folder / name)
        edit(folder / name, partial(dict.update, images=[image | change]))
    far = folder / "batch-far"
    shutil.copytree(folder / "batch", far)
    edit(far, lambda document: document["annotations"][0]["keypoints"].__setitem__(0, 9000))
    _skeletons(folder)


def _skeletons(folder: Path) -> None:
    """Exports with CVAT's file: of another skeleton, and beside COCO's."""
    for name in ("batch-other", "batch-two"):
        shutil.copytree(folder / "batch", folder / name)
        document = Document.model_validate_json((folder / name / "annotations.json").read_bytes())
        FORMATS["cvat"].write(folder / name, document, name)
    (folder / "batch-other" / "annotations.json").unlink()
    path = folder / "batch-other" / "annotations.xml"
    path.write_text(path.read_text().replace('"neck"', '"tail"'))


def _bundles(folder: Path) -> None:
    """One of an older misgiving, and one that was trained on people of ``synthetic:4``."""
    manifest = json.loads((folder / "bundle" / "manifest.json").read_text())
    provenance = manifest["provenance"] | {"training_data": ["synthetic:4,9"], "label_count": 9}
    changes = {
        "old-bundle": {"schema_version": 1},
        "trained-bundle": {"provenance": provenance},
    }
    for name, change in changes.items():
        shutil.copytree(folder / "bundle", folder / name)
        (folder / name / "manifest.json").write_text(json.dumps(manifest | change))


def _trusted(folder: Path) -> None:
    """Keys that are always the same, bundles that they signed, and zips."""
    for number, name in enumerate(("mine.key", "other.key")):
        key = Ed25519PrivateKey.from_private_bytes(bytes([number] * 32))
        public = key.public_key().public_bytes_raw()
        (folder / name).write_text(f"ed25519-private {key.private_bytes_raw().hex()}\n")
        (folder / name).chmod(0o600)
        (folder / f"{name}.pub").write_text(f"ed25519 {public.hex()}\n")
    mine = id_of(read_public(folder / "mine.key.pub"))
    for name, revoked in {"keys": "", "keys-revoked": mine, "keys-cut": "soon"}.items():
        (folder / name).mkdir()
        shutil.copy(folder / "mine.key.pub", folder / name)
        (folder / name / "revoked").write_text(f"{revoked}\n")
    shutil.copy(folder / "mine.key", folder / "open.key")
    (folder / "open.key").chmod(0o644)
    for name in ("signed", "altered", "cut-signature", "old"):
        _signed(
            folder / name, folder / "mine.key", "old-spots" if name == "old" else "bright-spots"
        )
    _signed(folder / "signed-other", folder / "other.key", "bright-spots")
    _pem(folder / "p384.pem", ec.derive_private_key(7, ec.SECP384R1()))
    _pem(folder / "p256.pem", p256 := ec.derive_private_key(7, ec.SECP256R1()))
    _pem(folder / "locked.pem", p256, serialization.BestAvailableEncryption(b"secret"))
    _signed(folder / "openssf", folder / "p256.pem", "bright-spots")
    shutil.copytree(folder / "bundle", folder / "junk-openssf")
    (folder / "junk-openssf" / "model.sig").write_text("junk")
    with (folder / "altered" / "manifest.json").open("a") as file:
        file.write(" ")
    (folder / "cut-signature" / "manifest.sig").write_text("junk")
    (folder / "state").mkdir()
    (folder / "state" / "floors.json").write_text('{"old-spots": 9}')
    pack_bundle(folder / "bundle", folder / "bundle.zip")
    (folder / "cut.zip").write_bytes((folder / "bundle.zip").read_bytes()[:-9])
    for name, inside in {"evil.zip": "../evil", "other.zip": "photo.jpg"}.items():
        with ZipFile(folder / name, "w") as archive:
            archive.writestr(inside, "x")


def _pem(
    path: Path,
    key: ec.EllipticCurvePrivateKey,
    secret: serialization.KeySerializationEncryption = serialization.NoEncryption(),
) -> None:
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))
    path.chmod(0o600)


def _signed(bundle: Path, key: Path, name: str) -> None:
    shutil.copytree(tiny.BUNDLE, bundle)
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": name}))
    sign_bundle(bundle, key)


def state(folder: Path) -> dict[str, int]:
    """Every file and folder with its size; what SQLite keeps beside an open database aside."""
    paths = (path for path in folder.rglob("*") if not path.name.startswith("store.sqlite"))
    return {str(p.relative_to(folder)): p.stat().st_size if p.is_file() else -1 for p in paths}
