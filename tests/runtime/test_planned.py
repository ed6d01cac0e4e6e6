"""A segmenter that OpenVINO has planned for a size, and what it does at others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from artifact_fixtures import picture
from featherseg.core.types import MIN_SIZE, InputSpec
from featherseg.exporting.onnx import write_artifact
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.fitting import Fit
from featherseg.runtime.segmenter import Segmenter

PLAIN = Path(__file__).parents[1] / "version_0_1_0" / "narrow.onnx"
"""A file that takes frames as they are."""


def test_segmenter_planned_for_a_size() -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    free = Segmenter(PLAIN, backend="openvino", threads=1)
    planned = free.planned((96, 160))
    assert planned._plan is not None
    assert planned._plan[1].size == (96, 160)
    assert free._plan is None
    for size in ((96, 160), (64, 96)):  # what it is planned for, and another
        frame = picture(*size)
        np.testing.assert_allclose(planned.logits(frame), free.logits(frame), atol=1e-3)
        assert np.mean(planned.segment(frame) == free.segment(frame)) > 0.999
    frames = [picture(96, 160, seed=i) for i in range(4)]
    assert np.array_equal(planned.segment_batch(frames), [planned.segment(frame) for frame in frames])


@pytest.mark.parametrize(
    ("file", "fit", "canvas"),
    [
        (PLAIN, "stretch", (64, 128)),
        (PLAIN, "letterbox", (64, 128)),
        (PLAIN, "tile", (64, 128)),
        (PLAIN, None, (200, 300)),
        ("wanting 480", None, (320, 480)),
    ],
)
def test_plan_is_for_what_the_network_sees(
    file: Path | str, fit: Fit | None, canvas: tuple[int, int], tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    if file == "wanting 480":
        file = Path(shutil.copy(PLAIN, tmp_path))
        write_artifact(file, replace(read_artifact(file), input_spec=InputSpec(long_side=480)))
    size = (64, 128) if fit else None
    segmenter = Segmenter(file, backend="openvino", threads=1, size=size, fit=fit)
    assert (None if segmenter._plan is None else segmenter._plan[0]) == size
    planned = segmenter.planned((200, 300))
    assert planned._plan is not None
    assert planned._plan[0] == canvas
    plain = Segmenter(file, backend="onnxruntime", threads=1, size=size, fit=fit)
    assert plain.planned((200, 300))._plan is None
    frame = picture(200, 300)
    assert np.mean(planned.segment(frame) == plain.segment(frame)) > 0.999


def test_small_frames_are_planned_for_at_the_smallest_size() -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    for segmenter in (
        Segmenter(PLAIN, backend="openvino", threads=1).planned((10, 20)),
        Segmenter(PLAIN, backend="openvino", threads=1, size=(10, 20)),
    ):
        assert segmenter._plan is not None
        assert segmenter._plan[0] == (MIN_SIZE, MIN_SIZE)
        assert segmenter.segment(picture(10, 20)).shape == (10, 20)
