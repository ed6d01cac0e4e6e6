"""Networks and data whose classes are not the same in the same order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conftest import Ended, Trained, error_line
from featherseg.core.errors import ConfigError, DataError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.data.datasets import create_dataset
from featherseg.evaluation.matching import match_classes, read_map
from featherseg.evaluation.metrics import ConfusionMatrix
from featherseg.evaluation.scores import evaluate


class Predicts:
    """A segmenter that gives the true class's name, by its own ids, from a function of the true ids."""

    size, fit = None, None

    def __init__(self, names: tuple[str, ...], dataset: Any, become: Callable[[np.ndarray], np.ndarray]) -> None:
        self.artifact = SimpleNamespace(classes=ClassSet(names), input_spec=InputSpec())
        self.masks = iter([become(dataset.read(i)[1]) for i in range(len(dataset))])

    def segment(self, image: np.ndarray) -> np.ndarray:
        return next(self.masks).astype(np.uint8)


def lookup(*ids: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mask: np.take(np.array([*ids, *[0] * (256 - len(ids))]), mask)


@pytest.fixture
def data(street_folder: Path) -> Any:
    return create_dataset("folder", street_folder, "all")  # sky, road, car


def map_file(folder: Path, text: str) -> Path:
    file = folder / "map.toml"
    file.write_text(text)
    return file


def test_reordered_classes_are_matched_by_name_and_said(data: Any) -> None:
    network = Predicts(("car", "sky", "road"), data, lookup(1, 2, 0))
    result = evaluate(network, data, boundary=True)  # type: ignore[arg-type]
    assert result.miou == result.boundary_f1 == 1
    assert result.classes == data.classes
    assert "classes matched by name" in result.summary()
    plain = Predicts(("sky", "road", "car"), data, lookup(0, 1, 2))
    assert "matched" not in evaluate(plain, data, boundary=False).summary()  # type: ignore[arg-type]


def test_a_network_of_other_classes_is_scored_by_a_map(data: Any, tmp_path: Path) -> None:
    names = ("street", "clouds", "blue", "bus", "van", "tree")
    network = Predicts(names, data, lambda mask: np.where(mask == 0, 1 + (np.indices(mask.shape)[1] % 2), mask + 1))
    # sky -> clouds or blue, road -> blue (wrong), car -> bus
    mapping = read_map(map_file(tmp_path, 'sky = ["clouds", "blue"]\nroad = "street"\ncar = ["bus", "van"]\n'))
    result = evaluate(network, data, class_map=mapping)  # type: ignore[arg-type]
    ious = dict(zip(result.classes.names, result.iou, strict=True))
    assert ious["car"] == 1
    assert ious["road"] == 0
    assert 0 < ious["sky"] < 1
    assert "always wrong: tree" in result.summary()


def test_predictions_that_the_map_has_no_class_for_are_misses(data: Any, tmp_path: Path) -> None:
    network = Predicts(("sky", "road", "car", "tree"), data, lookup(0, 3, 2))  # every road pixel is a tree
    mapping = read_map(map_file(tmp_path, 'sky = "sky"\nroad = "road"\ncar = "car"\n'))
    result = evaluate(network, data, class_map=mapping)  # type: ignore[arg-type]
    assert result.iou.tolist() == [1, 0, 1]
    targets = np.concatenate([data.read(i)[1].ravel() for i in range(len(data))])
    right = np.isin(targets, [0, 2]).sum() / (targets != 255).sum()
    assert result.pixel_accuracy == pytest.approx(right)


def test_classes_of_the_data_without_a_counterpart_are_not_scored(data: Any, tmp_path: Path) -> None:
    network = Predicts(("sky", "ground"), data, lookup(0, 1, 1))
    mapping = read_map(map_file(tmp_path, 'sky = "sky"\nroad = "*"\n'))
    result = evaluate(network, data, class_map=mapping)  # type: ignore[arg-type]
    assert result.miou == 1
    assert result.absent == ("car",)
    assert "not scored: car" in result.summary()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('sky = ["cloud"]', "'cloud' in sky, no class of the network; did you mean \"clouds\"?"),
        ('skyy = ["clouds"]', "'skyy', no class of the data; did you mean \"sky\"?"),
        ('ignore = ["clouds"]', "leave it out"),
        ("sky = [", "cannot be read"),
        ("sky = 1.5", "cannot be read"),
        ("sky = [3]", "3 in sky, no class of the network"),
    ],
)
def test_maps_that_cannot_be(data: Any, tmp_path: Path, text: str, words: str) -> None:
    def attempt() -> None:
        match_classes(ClassSet(("clouds", "street")), data, read_map(map_file(tmp_path, text)))

    assert words in error_line(ConfigError, attempt)


def test_other_classes_without_a_map_are_refused_with_the_way_out(data: Any) -> None:
    assert "--map FILE" in error_line(ConfigError, match_classes, ClassSet(("a", "b")), data)
    more = error_line(ConfigError, match_classes, ClassSet(("sky", "road", "car", "tree")), data)
    assert "'tree' of the network is not there" in more


def test_counts_of_misses_add_up() -> None:
    classes = ClassSet(("a", "b"))
    parts = [ConfusionMatrix(classes, others=True) for _ in range(2)]
    for part in parts:
        part.update(np.array([[0, 1, 255]], np.uint8), np.array([[9, 1, 9]], np.uint8))
    whole = parts[0].merge(parts[1])
    assert whole.missed.tolist() == [2, 0]
    assert whole.iou().tolist() == [0, 1]
    assert whole.pixel_accuracy() == 0.5
    assert len(whole.counts()) == 2
    with pytest.raises(ConfigError, match="the prediction holds value 9"):
        ConfusionMatrix(classes).update(np.array([[0]], np.uint8), np.array([[9]], np.uint8))
    with pytest.raises(DataError):
        whole.update(np.array([[9]], np.uint8), np.array([[0]], np.uint8))


def test_the_command_takes_a_map(
    trained: Trained, street_folder: Path, tmp_path: Path, run: Callable[..., Ended]
) -> None:
    words = ("eval", trained.file, "--data", street_folder, "--kind", "folder", "--split", "all", "--quiet")
    assert run(*words).refused("--map FILE")
    ended = run(*words, "--map", map_file(tmp_path, 'sky = "sky"\nroad = ["road", "pavement"]\ncar = "*"\n'), "--json")
    assert ended.code == 0, ended.err
    assert ended.json["classes"]["names"] == ["sky", "road", "car"]
    assert "map.toml maps them" in ended.json["protocol"]["rule"]
