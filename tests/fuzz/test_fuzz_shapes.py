"""Labels of strangers, COCO, YOLO, LabelMe and Supervisely, damaged in any way: class ids, or one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import Edit, answer, bounded, edits, fuzzed, json_values, mutated, tampered, tree_changes
from hypothesis import given
from hypothesis import strategies as st

import foreign_labels as made
from featherseg.core.errors import FeathersegError
from featherseg.core.text_files import parse_yaml
from featherseg.data.annotations import Labels, recognise
from featherseg.data.shapes import Bitmap, Polygons, Runs, Shape, Strokes, decode_counts, paint
from foreign_labels import SIZE, Export

BUILDERS = {
    build.__name__: (build, pattern)
    for build, pattern in (
        (made.coco_official, "annotations/instances_train2017.json"),
        (made.coco_cvat, "annotations/instances_default.json"),
        (made.coco_panoptic, "annotations/panoptic_train2017.json"),
        (made.labelme_windows, "labels/img_0.json"),
        (made.labelme_splits, "train/a.json"),
        (made.supervisely, "ds0/ann/0.png.json"),
        (made.supervisely_splits, "meta.json"),
        (made.yolo_cvat, "data.yaml"),
        (made.yolo_roboflow, "train/labels/a_jpg.rf.81.txt"),
        (made.labelme_voc, "SegmentationClass/0.npy"),
    )
}
JSONS = [name for name, (_, pattern) in BUILDERS.items() if pattern.endswith(".json")]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Export, Path, bytes]]:
    """Each export once, with the file that the tests damage and its bytes."""
    ready: dict[str, tuple[Export, Path, bytes]] = {}

    def get(name: str) -> tuple[Export, Path, bytes]:
        if name not in ready:
            build, pattern = BUILDERS[name]
            home = tmp_path_factory.mktemp(name)
            made.picture(home / "secret.png")
            export = build(home / "data")
            file = export.root / pattern
            ready[name] = export, file, file.read_bytes()
        return ready[name]

    return get


def check(export: Export) -> None:
    """Whatever is seen is read, or refused in a line; nothing outside the folder is read, nothing but ids comes out."""
    for evidence in recognise(export.root).values():
        labels = answer(evidence.labels)
        if isinstance(labels, FeathersegError):
            continue
        assert isinstance(labels, Labels)
        for note in labels.notes:
            assert len(note) < 500
            assert "\n" not in note
        for split in labels.splits:
            dataset = answer(labels.dataset, split)
            if isinstance(dataset, FeathersegError):
                continue
            for i, sample in enumerate(dataset.samples):
                assert sample.image.resolve().is_relative_to(export.root.resolve())
                assert sample.annotation.file.resolve().is_relative_to(export.root.resolve())
                found = answer(dataset.read, i)
                if not isinstance(found, FeathersegError):
                    assert found[1].shape == SIZE
                    assert set(np.unique(found[1]).tolist()) <= {*range(len(dataset.classes)), 255}


@fuzzed(200)
@given(name=st.sampled_from(JSONS), changes=tree_changes())
def test_json_of_any_content(
    exports: Callable[[str], tuple[Export, Path, bytes]], name: str, changes: list[tuple[float, Any]]
) -> None:
    export, file, good = exports(name)
    try:
        file.write_text(json.dumps(tampered(json.loads(good), changes)), encoding="utf-8", errors="surrogatepass")
        check(export)
    finally:
        file.write_bytes(good)


@fuzzed(200)
@given(name=st.sampled_from(list(BUILDERS)), changes=edits())
def test_damaged_files(exports: Callable[[str], tuple[Export, Path, bytes]], name: str, changes: list[Edit]) -> None:
    export, file, good = exports(name)
    try:
        file.write_bytes(mutated(good, changes))
        check(export)
    finally:
        file.write_bytes(good)


@pytest.mark.parametrize("name", list(BUILDERS))
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 100_000,
        b'{"images": [{"id": 1, "file_name": "a.png"}], "categories": [], "annotations": ' + b"[" * 100_000,
        b'{"shapes": [{"label": "a", "points": [[1e999, 0]], "shape_type": "polygon"}], "imagePath": "../secret.png"}',
        b'{"classes": [{"title": "' + b"x" * 100_000 + b'"}]}',
        b"\xff\xfe" + '{"shapes": []}'.encode("utf-16-le"),
        b"names: [a]\ntrain: [/etc, ../secret.png, ..]\n",
        b"0 " + b"1 0 " * 100_000,
    ],
    ids=range(8),
)  # fmt: skip
def test_what_breaks_readers(exports: Callable[[str], tuple[Export, Path, bytes]], name: str, content: bytes) -> None:
    export, file, good = exports(name)
    try:
        file.write_bytes(content)
        check(export)
    finally:
        file.write_bytes(good)


def one_line(call: Callable[[], object]) -> None:
    """Let a call answer, or refuse with a ValueError of one line."""
    message = ""
    with bounded():
        try:
            call()
        except ValueError as error:
            message = str(error)
    assert len(message) < 500
    assert "\n" not in message


@fuzzed(300)
@given(text=st.text(max_size=40) | st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=40))
def test_any_text_of_run_lengths(text: str) -> None:
    one_line(lambda: paint(SIZE, [Shape(Runs(decode_counts(text), SIZE), 1)], 0))


numbers = st.floats() | st.floats(-100, 100) | st.integers(-5, 30).map(float)


@fuzzed(300)
@given(
    points=st.lists(st.lists(st.tuples(numbers, numbers), max_size=8), max_size=3),
    radius=numbers,
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_any_coordinates(points: list[list[tuple[float, float]]], radius: float, size: tuple[int, int]) -> None:
    rings = tuple(np.array(ring, np.float64).reshape(-1, 2) for ring in points)
    corner = rings[0][0] if rings and len(rings[0]) else np.zeros(2)
    top, left = (int(v) if np.isfinite(v) else 10**30 for v in corner)
    for region in (
        Polygons(rings),
        *(Strokes(ring, radius) for ring in rings),
        Bitmap(np.ones((3, 4), bool), top, left),
    ):
        one_line(lambda region=region: paint(size, [Shape(region, 1)], 0))


@fuzzed(200)
@given(value=json_values(20), changes=edits())
def test_yaml_of_any_content(value: Any, changes: list[Edit]) -> None:
    import yaml

    try:
        text = yaml.safe_dump({"names": value, "train": "images"}, allow_unicode=True)
    except (yaml.YAMLError, UnicodeEncodeError, ValueError):
        text = "names: [a, *b, &c d]"
    for content in (text, mutated(text.encode("utf-8", "surrogatepass"), changes).decode("utf-8", "replace")):
        one_line(lambda content=content: parse_yaml(content))
