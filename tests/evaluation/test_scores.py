from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.data.datasets import create_dataset
from featherseg.evaluation.scores import averaged, evaluate, score
from featherseg.runtime.fitting import resized

CLASSES = ClassSet(("sky", "road", "car"))


class ColorSegmenter:
    """Scores a pixel by its distance to each class's colour, at stride 2; `bias` leans to the left of the view."""

    def __init__(self, classes: ClassSet = CLASSES, size: tuple[int, int] | None = None, bias: float = 0.0) -> None:
        self.artifact = SimpleNamespace(classes=classes, input_spec=InputSpec())
        self.fit = None
        self.size, self.bias = size, bias
        self.views: list[NDArray[np.uint8]] = []

    def logits(self, view: NDArray[np.uint8], scale: float = 1.0) -> NDArray[np.float32]:
        assert view.flags.c_contiguous
        view = resized(view, self.artifact.input_spec.size(view.shape[:2], scale))
        self.views.append(view)
        colors = np.array([(120, 180, 240), (90, 90, 90), (200, 30, 30)], np.float32)
        half = view[::2, ::2].astype(np.float32)
        scores = -np.abs(half[None] - colors[:, None, None]).sum(-1) / 40
        scores[2] += self.bias * np.linspace(1, 0, half.shape[1], dtype=np.float32)
        return np.asarray(scores, np.float32)

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        logits = self.logits(image)
        height, width = image.shape[:2]
        full = np.stack([cv2.resize(x, (width, height)) for x in logits])
        return np.asarray(full.argmax(0), np.uint8)


def data(root: Path) -> Any:
    return create_dataset("folder", root, "all")


def oracle(dataset: Any, predictions: list[NDArray[np.uint8]]) -> float:
    """Return mIoU over all pixels of all images, the slow way."""
    target = np.concatenate([dataset.read(i)[1].ravel() for i in range(len(dataset))])
    guess = np.concatenate([p.ravel() for p in predictions])
    guess, target = guess[target != 255], target[target != 255]
    ious = [((guess == c) & (target == c)).sum() / ((guess == c) | (target == c)).sum() for c in range(3)]
    return float(np.mean(ious))


def test_scores_are_those_of_all_pixels_together(street_folder: Path) -> None:
    dataset, segmenter = data(street_folder), ColorSegmenter()
    done: list[tuple[int, int]] = []
    result = evaluate(segmenter, dataset, progress=lambda *counts: done.append(counts))  # type: ignore[arg-type]
    predictions = [segmenter.segment(dataset.read(i)[0]) for i in range(len(dataset))]
    assert result.miou == pytest.approx(oracle(dataset, predictions))
    assert 0.8 < result.miou < 1
    assert done == [(i, 10) for i in range(1, 11)]
    assert result.matrix.sum() == sum(int((dataset.read(i)[1] != 255).sum()) for i in range(10))
    assert 0 < result.boundary_f1 <= 1
    assert result.protocol["split"] == "all"
    assert result.protocol["images"] == 10
    assert (result.protocol["scales"], result.protocol["flip"]) == ([1.0], False)


def test_parts_of_the_work_add_up_to_the_whole(street_folder: Path) -> None:
    dataset, segmenter = data(street_folder), ColorSegmenter()
    whole, borders, _ = score(segmenter.segment, dataset, boundary=False)
    assert borders is None
    first, _, _ = score(segmenter.segment, dataset, indices=range(0, 10, 2), boundary=False)
    second, _, _ = score(segmenter.segment, dataset, indices=range(1, 10, 2), boundary=False)
    np.testing.assert_array_equal(first.merge(second).matrix, whole.matrix)


def test_averaging_one_scale_is_plain_segmentation(street_folder: Path) -> None:
    segmenter = ColorSegmenter()
    image, _ = data(street_folder).read(1)
    probs = segmenter.logits(image)
    probs = np.exp(probs) / np.exp(probs).sum(0)
    full = np.stack([cv2.resize(p, (64, 48)) for p in probs])
    np.testing.assert_array_equal(averaged(segmenter, (1.0,), False)(image), full.argmax(0))  # type: ignore[arg-type]


def test_scales_and_mirrors_are_averaged(street_folder: Path) -> None:
    segmenter = ColorSegmenter()
    image, mask = data(street_folder).read(1)
    found = averaged(segmenter, (0.5, 1.0, 1.5), True)(image)  # type: ignore[arg-type]
    assert found.shape == mask.shape
    assert found.dtype == np.uint8
    assert [v.shape[:2] for v in segmenter.views] == [(24, 32), (24, 32), (48, 64), (48, 64), (72, 96), (72, 96)]
    np.testing.assert_array_equal(segmenter.views[3], segmenter.views[2][:, ::-1])
    assert (found == mask)[mask != 255].mean() > 0.95


def test_flipping_makes_the_mask_of_a_mirrored_image_the_mirrored_mask(street_folder: Path) -> None:
    image, _ = data(street_folder).read(2)
    leaning = ColorSegmenter(bias=8.0)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    plain, both = (averaged(leaning, (1.0,), flip) for flip in (False, True))  # type: ignore[arg-type]
    # The stride-2 logits take even columns, which mirroring turns odd: a few border pixels may differ.
    assert (both(mirrored)[:, ::-1] == both(image)).mean() > 0.98
    assert (plain(mirrored)[:, ::-1] == plain(image)).mean() < 0.9


def test_evaluate_takes_scales_and_says_so(street_folder: Path) -> None:
    segmenter = ColorSegmenter()
    result = evaluate(segmenter, data(street_folder), scales=(0.5, 1.0), flip=True, boundary=False)  # type: ignore[arg-type]
    assert len(segmenter.views) == 40
    assert np.isnan(result.boundary_f1)
    assert (result.protocol["scales"], result.protocol["flip"]) == ([0.5, 1.0], True)
    assert "scales 0.5, 1" in result.summary()
    assert "flipped" in result.summary()


@pytest.mark.parametrize(
    ("segmenter", "options", "words"),
    [
        (ColorSegmenter(ClassSet(("sky", "road"))), {}, "classes are not the network's"),
        (ColorSegmenter(ClassSet(("sky", "lane", "car"))), {}, "'road' of the data"),
        (ColorSegmenter(), {"scales": ()}, "scales are []"),
        (ColorSegmenter(), {"scales": (1.0, -0.5)}, "numbers over 0"),
        (ColorSegmenter(size=(32, 64)), {"scales": (1.0, 2.0)}, "resized to 32x64"),
    ],
)
def test_what_cannot_be_evaluated(street_folder: Path, segmenter: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as info:
        evaluate(segmenter, data(street_folder), **options)
    assert words in str(info.value)
    assert "\n" not in str(info.value)


def test_the_network_size_is_part_of_the_protocol(street_folder: Path) -> None:
    result = evaluate(ColorSegmenter(size=(48, 64)), data(street_folder), boundary=False)  # type: ignore[arg-type]
    assert result.protocol["resolution"] == "original resolution, network input 48x64"
