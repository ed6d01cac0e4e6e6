from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet, InputSpec, Latency, distinct_colors


def test_made_up_colours_are_distinct_and_none_is_black() -> None:
    colors = distinct_colors(64)
    assert len(set(colors)) == 64
    assert all(0 <= part <= 255 for color in colors for part in color)
    assert min(max(color) for color in colors) > 100
    assert distinct_colors(3) == colors[:3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"names": ()}, "at least one class"),
        ({"names": ("a", "b", "a")}, "'a' occurs twice"),
        ({"names": "road"}, "give a list of texts"),
        ({"names": ("a", 3)}, "give a list of texts"),
        ({"names": ("a", "")}, "give a list of texts"),
        ({"names": ("a", "b"), "colors": ((0, 0, 0),)}, "2 class names but 1 colours"),
        ({"names": ("a",), "colors": ((0, 0, 256),)}, "(0, 0, 256) is out of range"),
        ({"names": ("a",), "colors": ((-1, 0, 0),)}, "(-1, 0, 0) is out of range"),
        ({"names": ("a",), "ignore_index": 256}, "ignore_index is 256"),
        ({"names": ("a",), "ignore_index": -1}, "ignore_index is -1"),
        ({"names": ("a", "b"), "ignore_index": 1}, "ignore_index 1 is the id of class 'b'"),
        ({"names": tuple(map(str, range(256)))}, "255 classes at most"),
    ],
)
def test_class_sets_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as info:
        ClassSet(**options)
    assert words in str(info.value)
    assert "\n" not in str(info.value)


def test_255_classes_fit() -> None:
    classes = ClassSet(tuple(map(str, range(255))))
    assert len(classes) == 255
    assert classes.palette().shape == (256, 3)


def test_class_sets_survive_json_and_know_their_ids() -> None:
    classes = ClassSet(("sky", "road"), ((1, 2, 3), (4, 5, 6)), ignore_index=7)
    assert ClassSet.from_dict(json.loads(json.dumps(classes.to_dict()))) == classes
    assert ClassSet.from_dict({"names": ["sky", "road"]}) == ClassSet(("sky", "road"))
    assert classes.index("road") == 1
    with pytest.raises(ConfigError, match='did you mean "road"'):
        classes.index("raod")
    palette = classes.palette()
    assert palette[:2].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert not palette[2:].any()


def test_more_classes_than_fit_are_refused_before_they_are_compared() -> None:
    with pytest.raises(ValueError, match=r"^2000000 classes; at most 255 fit"):
        ClassSet.from_dict({"names": ["a"] * 2_000_000})


def test_input_specs_survive_json() -> None:
    spec = InputSpec((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
    assert InputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    enlarging = InputSpec(long_side=960)
    assert InputSpec.from_dict(json.loads(json.dumps(enlarging.to_dict()))) == enlarging
    assert InputSpec.from_dict({"mean": [0, 0, 0], "std": [1, 1, 1]}) == InputSpec((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"std": [1, 1, 1]}, "mean = None, not three usable numbers"),
        ({"mean": [0, 0], "std": [1, 1, 1]}, r"mean = \[0, 0\]"),
        ({"mean": [0, 0, float("nan")], "std": [1, 1, 1]}, "mean"),
        ({"mean": [0, 0, True], "std": [1, 1, 1]}, "mean"),
        ({"mean": [0, 0, 10**400], "std": [1, 1, 1]}, "mean"),
        ({"mean": [0, 0, "0"], "std": [1, 1, 1]}, "mean"),
        ({"mean": [0, 0, 0], "std": [1, 0, 1]}, "std"),
        ({"mean": [0, 0, 0], "std": [1, 1, 1], "long_side": 0}, "long_side = 0"),
        ({"mean": [0, 0, 0], "std": [1, 1, 1], "long_side": 960.0}, "long_side = 960.0"),
        ({"mean": [0, 0, 0], "std": [1, 1, 1], "long_side": 10**9}, "long_side"),
        ([0, 0, 0], "mean"),
    ],
)
def test_input_specs_that_cannot_be(data: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word) as info:
        InputSpec.from_dict(data)
    assert len(str(info.value)) < 200


def test_normalize_is_the_formula() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    spec = InputSpec((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
    out = spec.normalize(image)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    for c in range(3):
        np.testing.assert_allclose(out[c], (image[..., c] / 255 - spec.mean[c]) / spec.std[c], rtol=1e-5, atol=1e-6)


def test_latency_sums_run_by_run() -> None:
    latency = Latency({"pre": (1.0, 2.0, 3.0), "net": (30.0, 20.0, 10.0)}, warmup=2, device="cpu")
    assert latency.runs == 3
    assert latency.percentile(50) == 22.0
    assert latency.percentile(0) == 13.0
    assert latency.percentile(50, "pre") == 2.0
    table = latency.to_dict()
    assert table["ms"]["net"] == {"p50": 20.0, "p90": 28.0, "p99": 29.8, "min": 10.0}
    assert table["ms"]["sum"]["min"] == 13.0
    assert (table["runs"], table["warmup"], table["device"]) == (3, 2, "cpu")
