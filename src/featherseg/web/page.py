"""A page as a folder of files that any web server can serve: it segments pictures in the browser, and proves itself.

::

    index.html, *.js, *.css …   the page, as it lies in ``site``; the title and the policy are filled in
    page.json                   what the page has to know: classes, input, addresses and hashes of the files below
    files/                      the network, and the golden image with its mask, called after their own hashes
    onnxruntime-web@VERSION/    ONNX Runtime, where it is not to come from a public address
    SHA256SUMS                  of all of these

Every picture goes through the page as through :class:`featherseg.runtime.segmenter.Segmenter`: resized by the same
arithmetic, masks by the same exact upsample + arg max. Int8 files keep their weights, and floats flow between their
layers; see :mod:`.float_activations`. When it opens, the page segments the golden image, and does not
go on with an engine that gives another mask than the one made here.
"""

from __future__ import annotations

import html
import json
import logging
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..core.errors import ArtifactError, ConfigError
from ..core.plain_png import plain_png
from ..core.types import MIN_SIZE, ImageArray
from ..core.whole_folders import check_untouched, read_sums, whole_folder
from ..data.readers.synthetic import render_street
from ..runtime.artifact import Artifact, read_artifact
from ..runtime.fitting import resized
from ..runtime.segmenter import Segmenter
from .float_activations import write_float_activations
from .runtime import WebRuntime, integrity, web_runtime

SITE = Path(__file__).with_name("site")
INDEX, FACTS, MANIFEST = "index.html", "page.json", "manifest.json"
AGREEMENT = 0.999
"""Share of the golden mask's pixels that an engine has to give. Engines differ by rounding, which turns over pixels
whose two best classes are equal; as in the program of a model folder."""
GOLDEN_SEED, GOLDEN_SIZE = 3, (360, 640)
"""Street that is the golden image where none is given, and its (height, width)."""
FORMAT_VERSION = 1
_DIGITS = 16  # of a hash in a file's name

logger = logging.getLogger("featherseg")


@dataclass(frozen=True)
class WebPage:
    """A page that was written.

    Args:
        folder: where it is.
        bytes: of all its files.
        runtime: where it has ONNX Runtime from.
        classes_seen: how many classes the golden mask has.
    """

    folder: Path
    bytes: int
    runtime: WebRuntime
    classes_seen: int


def write_page(
    model: str | Path,
    out: str | Path,
    *,
    golden: ImageArray | None = None,
    runtime: str | Path = "cdn",
    title: str | None = None,
    threads: int | None = None,
) -> WebPage:
    """Write a page that runs an exported file in the browser. It appears whole, or not at all.

    Args:
        model: an ``.onnx`` file of featherseg's.
        out: folder to write. One that was written before is replaced, unless somebody changed something in it.
        golden: RGB uint8 (H, W, 3) that the page proves itself on and shows when it opens; a made-up street where left
            out. It goes along at the size that the network wants.
        runtime: where the page has ONNX Runtime from: ``"cdn"``, or the folder of the npm package onnxruntime-web,
            whose files are copied so that the page needs nobody else.
        title: of the page; the file's name where left out.
        threads: threads to make the golden mask with.

    Raises:
        ArtifactError: the file cannot be used.
        ConfigError: `out` holds what featherseg did not write, or an argument is out of range.

    Example:
        >>> page = featherseg.write_page("street.onnx", "page")
        >>> sorted(path.name for path in page.folder.glob("*.html"))
        ['index.html']
    """
    model, out = Path(model), Path(out)
    if model.suffix.lower() != ".onnx":
        raise ArtifactError(f"{model}: a page runs .onnx files; write one with featherseg export")
    check_page_place(out)
    source = web_runtime(runtime)
    with TemporaryDirectory() as folder:
        network = _network(model, Path(folder))
        return _written(network, out, source, golden, title or model.stem, threads)


def _network(model: Path, folder: Path) -> Path:
    """Return the file that a browser is to run for `model`, which may be one written into `folder`."""
    target = folder / model.name
    if str(read_artifact(model).training.get("weights", "")).startswith("int8 QDQ"):
        return target if write_float_activations(model, target) else model
    return model


def _written(
    model: Path, out: Path, source: WebRuntime, golden: ImageArray | None, title: str, threads: int | None
) -> WebPage:
    segmenter = Segmenter(model, threads=threads)
    golden = _golden(segmenter, golden)
    mask = segmenter.segment(golden)
    if (seen := len(np.unique(mask))) < 2:
        logger.warning(
            "the golden mask has one class only, so that it proves little; give a picture of what the network knows as "
            "the golden image"
        )
    title = " ".join(title.split())
    with whole_folder(out) as built:
        (built / "files").mkdir()
        facts = _facts(segmenter, source, title) | {
            "model": _put(built, model.read_bytes(), model.name) | _model_facts(segmenter.artifact),
            "golden": {
                "image": _put(built, plain_png(golden), "golden.png"),
                "mask": _put(built, plain_png(mask, segmenter.artifact.classes), "golden_mask.png"),
                "agreement": AGREEMENT,
            },
        }
        for path in sorted(SITE.iterdir()):
            (built / path.name).write_bytes(path.read_bytes())
        fill_index(built / INDEX, title, source)
        manifest = {"name": title, "short_name": title[:12], "display": "standalone", "start_url": "./"}
        icons = [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}]
        _write_json(built / MANIFEST, manifest | {"icons": icons})
        source.copy_into(built)
        shell = ["./", FACTS, *(path.name for path in sorted(built.iterdir()) if path.is_file())]
        _write_json(built / FACTS, facts | {"shell": shell})
        size = sum(path.stat().st_size for path in built.rglob("*") if path.is_file())
    return WebPage(out, size, source, seen)


def check_page_place(folder: str | Path) -> None:
    """Refuse a place where something is that is no page of featherseg's, or one that somebody changed.

    Raises:
        ConfigError: always one line.
    """
    place = Path(folder).resolve()
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not place.is_dir():
        raise ConfigError(f"{folder} is a file; give another name for the page's folder")
    try:
        whole = FACTS in read_sums(place)
    except (OSError, ValueError):
        whole = False
    if not whole:
        raise ConfigError(f"{folder} exists and is no page of featherseg's; give another name or remove it")
    check_untouched(folder)


def content_policy(runtime: WebRuntime) -> str:
    """Return the page's Content-Security-Policy: it may ask its own server, and fetch the runtime, and nothing else."""
    elsewhere = f" {runtime.address}/" if runtime.host else ""
    return "; ".join(
        (
            "default-src 'none'",
            # Scripts run from their checked bytes, which have addresses of the browser's own.
            "script-src 'self' blob: 'wasm-unsafe-eval'",
            "worker-src 'self' blob:",
            f"connect-src 'self'{elsewhere}",
            "img-src 'self' blob:",
            "style-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def fill_index(path: Path, title: str, runtime: WebRuntime) -> None:
    """Fill in what the page's HTML leaves open: title, policy, and where the runtime is from."""
    words = f" and ONNX Runtime from {runtime.host}" if runtime.host else ""
    values = {"title": html.escape(title), "policy": content_policy(runtime), "runtime_words": words}
    text = Template(path.read_text("utf-8")).substitute(values)
    path.write_bytes(text.encode("utf-8", "replace"))


def _golden(segmenter: Segmenter, golden: ImageArray | None) -> ImageArray:
    """Return the golden image at the size that the network wants."""
    if golden is None:
        golden = render_street(GOLDEN_SEED, segmenter.size or GOLDEN_SIZE)[0]
    elif golden.ndim != 3 or golden.dtype != np.uint8 or min(golden.shape[:2]) < MIN_SIZE:
        raise ConfigError(
            f"golden image is {golden.dtype} {golden.shape}; give RGB uint8 (H, W, 3) of at least {MIN_SIZE} a side"
        )
    size = segmenter.size or segmenter.artifact.input_spec.size((golden.shape[0], golden.shape[1]))
    return np.ascontiguousarray(resized(golden, size))


def _facts(segmenter: Segmenter, runtime: WebRuntime, title: str) -> dict[str, Any]:
    artifact = segmenter.artifact
    return {
        "format_version": FORMAT_VERSION,
        "featherseg": artifact.version,
        "title": title,
        "classes": artifact.classes.to_dict(),
        "background": artifact.classes.background,
        "input": {
            "size": list(segmenter.size) if segmenter.size else None,
            "long_side": artifact.input_spec.long_side,
            "smallest": MIN_SIZE,
        },
        "runtime": runtime.to_dict(),
    }


def _model_facts(artifact: Artifact) -> dict[str, Any]:
    miou, dataset = artifact.verification.get("miou"), artifact.verification.get("dataset")
    measured = isinstance(miou, float) and isinstance(dataset, str)
    form = ", with 8 bits between layers too" if artifact.training.get("quantization") else ""
    return {
        "network": artifact.network,
        "params": artifact.params,
        "stride": artifact.stride,
        "miou": miou if measured else None,
        "protocol": f"on {dataset}{form}" if measured else "",
    }


def _put(page: Path, content: bytes, name: str) -> dict[str, Any]:
    """Write a file under a name that changes with its content, and return what the page has to know of it."""
    suffix = Path(name).suffix
    url = f"files/{sha256(content).hexdigest()[:_DIGITS]}{suffix}"
    (page / url).write_bytes(content)
    return {"name": name, "url": url, "bytes": len(content), "integrity": integrity(content)}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_bytes(json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "replace"))
