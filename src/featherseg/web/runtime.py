"""The files of ONNX Runtime that a page runs its network with: from a public address, or copied beside the page.

Either way each is held to its hash before it runs, in the browser (``integrity`` of the Fetch standard).
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
"""Of the package, where its files come from the public address."""
CDN = "https://cdn.jsdelivr.net/npm"
"""Serves the files of published packages unchanged, with headers that let pages of all origins read them."""


@dataclass(frozen=True)
class RuntimeFile:
    """A file of the package.

    Args:
        name: in its folder ``dist``.
        bytes: its size.
        integrity: its SHA-384, as browsers want it.
    """

    name: str
    bytes: int
    integrity: str


ENGINES = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": (
        "ort.webgpu.min.mjs",
        "ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.wasm",
    ),
}
"""What each engine needs: its module, what loads its program, and the program."""
PARTS = ("module", "loader", "binary")

_PINNED = {
    "ort.wasm.min.mjs": (50126, "SfFfy/pvthiOsgaw3KX0bV5TfQ6Iq+oY9KutMe4SxIuHH4cl+DCSD4rTsYOoG1tJ"),
    "ort-wasm-simd-threaded.mjs": (24381, "XcXA/MtAf0WpB8e023xQH9CM7RIjiugakT7x99DIwpFf7k56BIFFcAPerIF7FDad"),
    "ort-wasm-simd-threaded.wasm": (14239897, "vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM"),
    "ort.webgpu.min.mjs": (66349, "FPQBMbud8ICuP0Ii+Gr95KWEX9pKHtUC3lacIp0aPI8WYluKvTsEGQ3AE2Ze3QlL"),
    "ort-wasm-simd-threaded.asyncify.mjs": (53057, "qViEcCGzsR/m8nlQwIsbYh7afN4thuraqFYDQY6huvmoLVoZq/eYawQ1wrv8nnhA"),
    "ort-wasm-simd-threaded.asyncify.wasm": (
        26781914,
        "EPVDLTxuO663dkZO/pcKJF6vOyyfq/5z9FY1oksN0UWFX2ABH4wDDZQHeNoUleWR",
    ),
}
"""Size and SHA-384 of each file of the package at :data:`VERSION`, as it was published."""


@dataclass(frozen=True)
class WebRuntime:
    """ONNX Runtime for a page.

    Args:
        version: of the package.
        address: its folder, as the page says it: an address, or a path beside the page.
        files: by name.
        folder: where the files are copied from; None where they stay where they are.
    """

    version: str
    address: str
    files: dict[str, RuntimeFile]
    folder: Path | None = None

    @property
    def host(self) -> str:
        """The machine that files come from; empty for the page's own."""
        return "" if self.folder else CDN.split("/")[2]

    def copy_into(self, page: Path) -> None:
        """Copy the files beside a page, if that is where it looks for them."""
        if self.folder is None:
            return
        target = page / self.address
        target.mkdir(parents=True)
        for name in self.files:
            shutil.copyfile(self.folder / name, target / name)

    def to_dict(self) -> dict[str, Any]:
        """Return what the page reads."""
        source = self.host or "the page's own folder"
        return {"version": self.version, "source": source} | {
            engine: {part: self._entry(name) for part, name in zip(PARTS, names, strict=True)}
            for engine, names in ENGINES.items()
        }

    def _entry(self, name: str) -> dict[str, Any]:
        file = self.files[name]
        return {"url": f"{self.address}/{name}", "bytes": file.bytes, "integrity": file.integrity}


def web_runtime(source: str | Path = "cdn") -> WebRuntime:
    """Return the runtime of a page.

    Args:
        source: ``"cdn"``, or the folder of the npm package onnxruntime-web, of any version.

    Raises:
        ConfigError: the folder is none of that package, or lacks a file.
    """
    if str(source) == "cdn":
        pinned = {name: RuntimeFile(name, size, f"sha384-{digest}") for name, (size, digest) in _PINNED.items()}
        return WebRuntime(VERSION, f"{CDN}/{PACKAGE}@{VERSION}/dist", pinned)
    package = Path(source).expanduser()
    if package.name == "dist":
        package = package.parent
    how = f"give the folder of the npm package: npm install {PACKAGE}@{VERSION}, then node_modules/{PACKAGE}"
    try:
        said = json.loads((package / "package.json").read_text("utf-8"))
        name, version = said["name"], str(said["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--runtime {source} holds no package.json of {PACKAGE}; {how}, or cdn") from error
    if name != PACKAGE:
        raise ConfigError(f"--runtime {source} is the package {str(name)[:80]!r}, not {PACKAGE}; {how}")
    folder, files = package / "dist", {}
    for name in sum(ENGINES.values(), ()):
        if not (folder / name).is_file():
            raise ConfigError(f"--runtime {source} has no dist/{name}; {how}")
        content = (folder / name).read_bytes()
        files[name] = RuntimeFile(name, len(content), integrity(content))
    return WebRuntime(version, f"{PACKAGE}@{version}", files, folder)


def integrity(content: bytes) -> str:
    """Return the SHA-384 of a file's bytes as browsers want it."""
    return f"sha384-{base64.b64encode(hashlib.sha384(content).digest()).decode()}"
