"""Each image goes through each way once, and what files say of themselves makes no other way of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Trained
from featherseg.data.datasets import create_dataset
from featherseg.evaluation import ways as module
from featherseg.evaluation.calibration import calibrate_confidence, fitted
from featherseg.evaluation.scores import score
from featherseg.evaluation.ways import Ways
from featherseg.exporting.onnx import write_artifact
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.containers import fingerprint
from featherseg.runtime.segmenter import Segmenter

OPTIONS: dict[str, Any] = {"count": 2, "val_count": 3, "size": [64, 96]}
VAL = create_dataset("synthetic", split="val", **OPTIONS)


def test_masks_and_scores_are_made_once_and_are_those_of_an_evaluation(trained: Trained) -> None:
    segmenter, runs = Segmenter(trained.file, threads=1), []

    def look(image: np.ndarray) -> Any:
        runs.append(1)
        mask, parts = segmenter.explained(image)
        return mask, parts.at

    way = Ways(VAL).of("a way", look)
    for _ in range(2):
        for i in (2, 0, 1):
            way.score(i)
            way.score(i, boundary=True)
            np.testing.assert_array_equal(way.mask(i), segmenter.segment(VAL.read(i)[0]))
    assert len(runs) == 3
    logits, targets = way.pixels().whole()
    assert len(runs) == 3
    told = calibrate_confidence(segmenter, VAL)
    assert fitted(way.pixels(), "synthetic val").to_dict() == told.to_dict()
    assert len(logits) == len(targets) == told.before.counts.sum()
    confusion, boundary, _ = score(segmenter.segment, VAL)
    np.testing.assert_array_equal(way.confusion.matrix, confusion.matrix)
    assert boundary is not None
    assert way.boundary.mean() == boundary.mean()


def test_masks_beyond_the_memory_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MASK_BYTES", 40)
    runs = []

    def look(image: np.ndarray) -> Any:
        runs.append(1)
        mask = np.random.default_rng(0).integers(0, 3, image.shape[:2]).astype(np.uint8)
        return mask, lambda rows, columns: np.zeros((len(rows), len(VAL.classes)), np.float32)

    way = Ways(VAL).of("a way", look)
    np.testing.assert_array_equal(way.mask(0), way.mask(0))
    assert len(runs) == 2


def test_a_file_is_known_by_what_it_computes(trained: Trained, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy.onnx", tmp_path / "other.onnx"
    for path in (copy, other):
        shutil.copyfile(trained.file, path)
    write_artifact(copy, replace(read_artifact(copy), verification={"passed": True}, training={"a": 1}))
    artifact = read_artifact(other)
    write_artifact(other, replace(artifact, input_spec=replace(artifact.input_spec, long_side=70)))
    assert copy.read_bytes() != trained.file.read_bytes()
    assert fingerprint(copy) == fingerprint(trained.file) == fingerprint(other)
    ways = Ways(VAL)
    first, again, resized = (ways.of_file(path, Segmenter(path, threads=1)) for path in (trained.file, copy, other))
    assert first is again
    assert first is not resized  # its images are others
    assert ways.of_file(copy, Segmenter(copy, scale=0.5, threads=1)) is not first
    ways.forget(first)
    assert ways.of_file(copy, Segmenter(copy, threads=1)) is not first


def test_other_weights_are_another_file(trained: Trained, tmp_path: Path) -> None:
    import onnx

    proto = onnx.load(str(trained.file))
    tensor = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    tensor.raw_data = bytes([tensor.raw_data[0] ^ 1]) + tensor.raw_data[1:]
    onnx.save(proto, str(tmp_path / "changed.onnx"))
    assert fingerprint(tmp_path / "changed.onnx") != fingerprint(trained.file)


def test_classes_in_another_order_are_the_datas(trained: Trained) -> None:
    segmenter, count = Segmenter(trained.file, threads=1), len(VAL.classes)
    table = np.full(256, 255, np.uint8)
    table[:count] = np.roll(np.arange(count), 1)
    plain, turned = Ways(VAL).of_file(trained.file, segmenter), Ways(VAL).of_file(trained.file, segmenter, table)
    np.testing.assert_array_equal(turned.mask(1), table[plain.mask(1)])
    ours, theirs = turned.pixels().whole()[0], plain.pixels().whole()[0]
    np.testing.assert_array_equal(ours.argmax(1), table[theirs.argmax(1)])
    np.testing.assert_array_equal(ours[:, table[0]], theirs[:, 0])
