"""Tiny wheels that pip finds in a folder, without any index."""

import base64
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq import environments, places


@dataclass(frozen=True)
class Workshop:
    """A home, wheels that pip finds, and lists that name them."""

    root: Path

    @property
    def places(self):
        return places.find({"EDGEQ_HOME": str(self.root / "home")})

    @property
    def lists(self):
        return self.root / "lists"

    @property
    def log(self):
        return self.places.log / "environment-tiny.log"

    def wheel(self, name, version="1.0", needs=()):
        """Write a wheel; its pinned line for a list."""
        path = self.root / "wheels" / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        files = {
            f"{name}.py": f"VERSION = {version!r}\n",
            f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {item}\n" for item in needs),
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{place},sha256={_digest(text)},\n" for place, text in files.items())
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
        with zipfile.ZipFile(path, "w") as archive:
            for place, text in files.items():
                archive.writestr(place, text)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return f"{name}=={version} \\\n    --hash=sha256:{sha256}\n"

    def list(self, name, *lines, header="# python >=3.11\n# size 1\n"):
        (self.lists / f"{name}.txt").write_text(header + "".join(lines))

    def ensure(self, name="tiny", on_progress=lambda *_: None):
        return environments.ensure(name, self.places, on_progress, lists=self.lists)

    def installed(self):
        return environments.installed(self.places, lists=self.lists)


def _digest(text):
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    for folder in ("wheels", "lists"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    made = Workshop(root=tmp_path)
    made.list("tiny", made.wheel("tiny"))
    return made
