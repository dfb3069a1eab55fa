"""What the tests of trust share: a bundle that is signed, and a folder of trusted keys."""

import json
import shutil
from pathlib import Path
from typing import Any

from misgiving.runtime.bundles.releasing import sign_bundle
from misgiving.runtime.bundles.trust import new_key
from shared import tiny


class Fleet:
    """Two keys, a trusted folder that holds the first one's public half, and a bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, self.other = folder / "release.key", folder / "other.key"
        self.id, self.other_id = new_key(self.key), new_key(self.other)
        self.trusted = folder / "trusted"
        self.trusted.mkdir()
        self.trust(self.key)
        self.bundle = Path(shutil.copytree(tiny.BUNDLE, folder / "bundle"))

    def trust(self, key: Path) -> None:
        shutil.copy(f"{key}.pub", self.trusted)

    def revoke(self, *lines: str) -> None:
        (self.trusted / "revoked").write_text("".join(f"{line}\n" for line in lines))

    def edit(self, **fields: Any) -> None:
        """Change the manifest; who had signed it has not signed this."""
        path = self.bundle / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    def sign(self, key: Path | None = None) -> str:
        return sign_bundle(self.bundle, key or self.key)
