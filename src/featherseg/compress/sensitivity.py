"""Which layers int8 hurts most: one at a time in integers, all others in fp32, and what that does to the logits.

Joins are no part of it: what they round, the layers around them round as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from ..core.progress import OnProgress, no_progress
from ..core.types import ImageArray
from .calibration import check_calibration
from .graph import FloatGraph
from .plan import Plan, plan
from .qdq import calibrate, integer_proto
from .ranges import METHOD, Histogram, check_method
from .running import Walk

IMAGES = 4
"""Images that every layer is measured on. They give the same first two, four and eight of FastSegNet's layers as 16."""


@dataclass(frozen=True)
class LayerDamage:
    """What one layer in int8 does to the logits.

    Args:
        name: the layer, as ``keep`` of :func:`.qdq.quantize_onnx` takes it.
        sqnr: signal to noise of the logits in dB: their spread over the classes against what is changed in it. 6 dB
            less is a bit less; infinite where nothing changes.
        changed: share 0–1 of the logits' places with another class.
    """

    name: str
    sqnr: float
    changed: float

    def __str__(self) -> str:
        return f"{self.name}: {self.sqnr:.1f} dB, {self.changed:.2%} of the places with another class"


def layer_sensitivity(
    source: str | Path,
    calibration: Sequence[ImageArray],
    *,
    flavour: str = "onnxruntime",
    method: str = METHOD,
    histograms: Mapping[str, Histogram] | None = None,
    images: int = IMAGES,
    threads: int | None = None,
    progress: OnProgress = no_progress,
) -> list[LayerDamage]:
    """Return the damage of each layer alone, the worst first.

    Args:
        source: an exported fp32 file that gives logits.
        calibration: RGB images at the deployed size.
        flavour: as for :func:`.qdq.quantize_onnx`.
        method: as there.
        histograms: what :func:`.qdq.calibrate` made of the images, if it was done before.
        images: how many of the images, spread over them, the layers are measured on.
        threads: threads of the engine that runs them.
        progress: called with layers done and layers in all.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the images are too few, or random noise.
        ArtifactError: `source` is not an exported fp32 file.
    """
    check_method(method)
    if images < 1:
        raise ConfigError(f"images is {images}; measure layers on at least 1")
    check_calibration(calibration)
    graph = FloatGraph(source)
    whole = plan(graph, flavour)
    known = calibrate(whole, calibration, threads=threads) if histograms is None else histograms
    places = np.linspace(0, len(calibration) - 1, min(images, len(calibration)))
    walk = Walk(graph, [calibration[round(place)] for place in places], threads)
    expected = _centred(walk.logits(graph.proto))
    alone = {name: plan(graph, flavour, [name], joins=False) for name in whole.layers}
    starts = {name: _first_change(each) for name, each in alone.items()}
    found: dict[str, LayerDamage] = {}
    for name in sorted(alone, key=lambda name: starts[name]):
        walk.to(starts[name])
        actual = _centred(walk.logits(integer_proto(alone[name], known, method)))
        found[name] = LayerDamage(name, _sqnr(expected, actual), _changed(expected, actual))
        progress(len(found), len(alone))
    return sorted((found[name] for name in alone), key=lambda damage: damage.sqnr)


def _first_change(chosen: Plan) -> int:
    """Return the place of the first node that reads what a plan rounds: all before it is as in the float graph."""
    nodes = enumerate(chosen.graph.proto.graph.node)
    rounded = chosen.roots.keys()
    return next(
        place
        for place, node in nodes
        if any(name in rounded and (node.name, name) not in chosen.direct for name in node.input)
    )


def _centred(logits: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    """Return logits (C, h, w) less their mean over the classes, which decides nothing."""
    found = [each.astype(np.float64) for each in logits]
    return [each - each.mean(axis=0) for each in found]


def _sqnr(expected: Sequence[NDArray[np.float64]], actual: Sequence[NDArray[np.float64]]) -> float:
    noise = sum(float(((a - b) ** 2).sum()) for a, b in zip(expected, actual, strict=True))
    signal = sum(float((a**2).sum()) for a in expected)
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(max(signal, np.finfo(np.float64).tiny) / noise))


def _changed(expected: Sequence[NDArray[np.float64]], actual: Sequence[NDArray[np.float64]]) -> float:
    pairs = zip(expected, actual, strict=True)
    return float(np.mean([np.mean(a.argmax(axis=0) != b.argmax(axis=0)) for a, b in pairs]))
