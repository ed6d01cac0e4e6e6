"""A try that is given up could not have been saved, and what was found once is not looked for again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import Trained
from featherseg.compress import search as module
from featherseg.compress.calibration import calibration_images
from featherseg.compress.quantize import QuantizeConfig, quantize
from featherseg.compress.search import best_miou
from featherseg.core.errors import VerificationError
from featherseg.core.types import ClassSet
from featherseg.data.datasets import create_dataset
from featherseg.evaluation.metrics import ConfusionMatrix
from featherseg.evaluation.scores import evaluate
from featherseg.evaluation.ways import Ways
from featherseg.exporting.verify import verify
from featherseg.models.checkpoint import load_checkpoint
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter

OPTIONS: dict[str, Any] = {"count": 16, "val_count": 6, "size": [64, 96]}
VAL = create_dataset("synthetic", split="val", **OPTIONS)
IMAGES = calibration_images(create_dataset("synthetic", split="train", **OPTIONS), 8)


def masks(rng: np.random.Generator, count: int, used: int) -> NDArray[np.uint8]:
    return rng.integers(0, used, (count, 5, 6)).astype(np.uint8)


def test_no_way_of_predicting_the_rest_beats_the_bound() -> None:
    rng = np.random.default_rng(0)
    classes = ClassSet(("a", "b", "c", "d", "e"))
    for _ in range(300):
        targets, predictions = masks(rng, 4, rng.integers(1, 5)), masks(rng, 4, rng.integers(1, 6))
        targets[rng.random(targets.shape) < 0.2] = 255
        right = rng.random(targets.shape) < rng.random()
        predictions = np.where(right & (targets != 255), targets, predictions)
        seen, whole, best = ConfusionMatrix(classes), ConfusionMatrix(classes), ConfusionMatrix(classes)
        for i in range(4):
            whole.update(targets[i], predictions[i])
            best.update(targets[i], predictions[i] if i < 2 else targets[i])
        for i in range(2):
            seen.update(targets[i], predictions[i])
        left = np.bincount(targets[2:].ravel(), minlength=256)[:5]
        bound = best_miou(seen, left)
        assert bound >= whole.miou()
        assert bound == pytest.approx(best.miou())  # and it can be reached


def test_a_hopeless_try_ends_before_the_last_image(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    honest = module.Way.score

    def score(self: module.Way, index: int, **options: Any) -> None:
        seen.append(index)
        honest(self, index, **options)

    truth = {image.tobytes(): target for image, target in map(VAL.read, range(len(VAL)))}

    def told(self: Any, path: str | Path, segmenter: Segmenter, table: Any = None) -> module.Way:
        def look(image: NDArray[np.uint8]) -> Any:
            mask = truth[image.tobytes()] if Path(path) == trained.file else np.zeros(image.shape[:2], np.uint8)
            return np.where(mask == 255, 0, mask), lambda rows, columns: np.zeros((len(rows), 5), np.float32)

        return module.Way(VAL, look, self.places)

    monkeypatch.setattr(module.Way, "score", score)
    monkeypatch.setattr(module.Ways, "of_file", told)
    with pytest.raises(VerificationError, match=r"loses at least \d+\.\d\d points"):
        quantize(trained.file, tmp_path / "i.onnx", IMAGES, VAL, QuantizeConfig(max_drop=0.05, runs=1))
    assert sorted(seen[: len(VAL)]) == list(range(len(VAL)))  # the fp32 file's
    tries = seen[len(VAL) :]
    assert 0 < len(tries) < 3 * len(VAL)
    assert not list(tmp_path.iterdir())


def test_files_that_were_scored_are_not_run_again(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    honest = Segmenter.explained

    def explained(self: Segmenter, frame: Any) -> Any:
        runs.append(1)
        return honest(self, frame)

    monkeypatch.setattr(Segmenter, "explained", explained)
    ways, histograms = Ways(VAL), {}
    network = load_checkpoint(trained.run).model
    first = verify(network, trained.file, VAL, ways=ways, threads=1)
    assert len(runs) == len(VAL)
    settings = QuantizeConfig(max_drop=0.5, runs=1, threads=1)
    result = quantize(trained.file, tmp_path / "i.onnx", IMAGES, VAL, settings, ways=ways, histograms=histograms)
    assert len(runs) == 2 * len(VAL)  # int8 alone
    assert result.fp32_eval.miou == first.file.miou
    found = verify(network, result.path, VAL, ways=ways, threads=1)
    assert len(runs) == 2 * len(VAL)
    assert found.torch == first.torch
    alone = verify(network, result.path, VAL, threads=1)
    assert (found.agreement, found.file, found.worst_image) == (alone.agreement, alone.file, alone.worst_image)
    assert (found.confidence_error, str(found.calibration)) == (alone.confidence_error, str(alone.calibration))
    assert read_artifact(result.path).calibration == alone.calibration.to_dict()
    assert result.int8_eval.miou == evaluate(honest_file(result.path), VAL, boundary=False).miou == found.file.miou
    assert histograms
    monkeypatch.setattr(module, "calibrate", None)  # nothing is left to find
    again = quantize(trained.file, tmp_path / "j.onnx", IMAGES, VAL, settings, ways=ways, histograms=histograms)
    assert again.int8_eval.miou == result.int8_eval.miou


def honest_file(path: Path) -> Segmenter:
    return Segmenter(path, threads=1)
