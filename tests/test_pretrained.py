"""The network that comes along does on CamVid what its metadata say."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherseg.data.datasets import create_dataset
from featherseg.evaluation.opening import STREET
from featherseg.evaluation.scores import evaluate
from featherseg.runtime.segmenter import Segmenter


def test_its_figures_can_be_repeated(shared: Path) -> None:
    segmenter = Segmenter(STREET)
    result = evaluate(segmenter, create_dataset("camvid", shared / "data" / "CamVid", "val"), boundary=False)
    figures = segmenter.artifact.verification
    assert figures["dataset"] == "camvid val"
    assert figures["images"] == 101
    assert result.miou == pytest.approx(figures["miou"], abs=1e-3)
    assert figures["miou"] == pytest.approx(figures["miou_torch"], abs=5e-3)
