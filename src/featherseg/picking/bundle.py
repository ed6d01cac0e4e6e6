"""A folder of candidates for another device, with one program that times them there and needs no featherseg."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ConfigError, FeathersegError
from ..core.files import TEMPORARY
from ..core.progress import OnProgress, logger, no_progress
from ..core.types import ImageArray
from ..runtime.engines import Engine
from .candidates import SCALES, Way, nets, variants
from .files import CandidateFiles

PROGRAM, LIST, FRAME = "time_here.py", "candidates.json", "frame.npy"
_SOURCE = Path(__file__).with_name("device_program.py.txt")
WAYS = (Way("fp32", Engine("onnxruntime")), Way("int8", Engine("onnxruntime")), Way("int8", Engine("openvino")))
"""One for each kind of file; which engines read it, the program knows."""
README = """Candidates with random weights, which take as long as trained ones, and the program that times them.

    pip install onnxruntime numpy
    python {program} -o pi5.json --name "Raspberry Pi 5"

OpenVINO, LiteRT and ncnn are timed too where they are installed and have files here. The file that it writes tells
featherseg pick, on another machine, what is quick enough on this one:

    featherseg pick photos --fps 30 --on pi5.json
"""


def write_bundle(
    folder: str | Path,
    frame: ImageArray,
    num_classes: int,
    *,
    networks: Sequence[str] = (),
    scales: Sequence[float] = SCALES,
    progress: OnProgress = no_progress,
) -> Path:
    """Write the folder, whole or not at all.

    Args:
        folder: to write; there must be nothing in it.
        frame: RGB uint8 (H, W, 3), of the size that the device's pictures have.
        num_classes: of the networks.
        networks: names; all that are registered where empty.
        scales: of the networks' input, as shares of the frame's size.
        progress: called with the numbers of files done and of all.

    Raises:
        ConfigError: there is something in the folder, or a network or a size is none.
    """
    folder = Path(folder)
    place = folder.resolve()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(f"{folder} exists and is not empty; give another --bundle, or remove it")
    if num_classes < 1:
        raise ConfigError(f"--classes is {num_classes}; give at least 1")
    chosen = variants(networks)
    nets(chosen, scales)  # refuses sizes that are none
    files = CandidateFiles(num_classes)
    listed: list[dict[str, Any]] = []
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f"{TEMPORARY}{place.name[:50]}."))
    try:
        built = temporary / "new"
        built.mkdir()
        for done, (variant, way) in enumerate(((v, w) for v in chosen for w in WAYS), start=1):
            try:
                source = files.get(variant, way)
            except FeathersegError as error:
                logger.warning(f"warning: {variant} is left out in {way.precision}: {error}")
            else:
                shutil.copyfile(source, built / source.name)
                listed.append(
                    {
                        "file": source.name,
                        "name": str(variant),
                        "network": variant.network,
                        "options": dict(variant.options),
                        "weights": way.weights,
                        "flavour": "" if way.weights == "fp32" else way.flavour,
                    }
                )
            progress(done, len(chosen) * len(WAYS))
        facts = {"size": list(frame.shape[:2]), "num_classes": num_classes, "scales": sorted(set(scales), reverse=True)}
        (built / LIST).write_text(json.dumps(facts | {"files": listed}, indent=1) + "\n", encoding="utf-8")
        np.save(built / FRAME, frame)
        shutil.copyfile(_SOURCE, built / PROGRAM)
        (built / "README.txt").write_text(README.format(program=PROGRAM), encoding="utf-8")
        if place.exists():
            place.rmdir()
        built.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
