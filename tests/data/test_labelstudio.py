from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import error_line
from featherseg.core.errors import DataError
from featherseg.data.annotations import recognise
from featherseg.data.brush_rle import decode, encode
from featherseg.data.datasets import create_dataset
from featherseg.data.image_names import path_in
from labelled_exports import SIZE, save, scene, studio_brush, studio_json, studio_region, studio_task, write

# The run lengths of brush strokes


def oracle(data: bytes) -> np.ndarray:
    """Bit by bit, as the format is described: another way to the values than ours."""
    text = "".join(f"{byte:08b}" for byte in data)

    def take(width: int) -> int:
        nonlocal text
        value, text = int(text[:width], 2), text[width:]
        return value

    count, word, widths = take(32), take(5) + 1, [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        if take(1):
            length = take(widths[take(2)]) + 1
            values += [take(word)] * length
        else:
            length = take(widths[take(2)]) + 1
            values += [take(word) for _ in range(length)]
    return np.array(values)


def pack(*numbers: tuple[int, int]) -> bytes:
    """Bits of (value, width), filled up to whole bytes."""
    text = "".join(f"{value:0{width}b}" for value, width in numbers)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


HEAD = ((7, 5), (2, 4), (3, 4), (7, 4), (15, 4))


def test_brush_strokes_there_and_back() -> None:
    rng = np.random.default_rng(0)
    shapes: list[np.ndarray] = [scene(i)[1] == 1 for i in range(3)]
    shapes += [rng.random((9, 11)) < 0.5, np.ones((300, 200), np.bool_), np.zeros((1, 1), np.bool_)]
    for mask in shapes:
        data = encode(mask)
        assert np.array_equal(decode(data, mask.shape), mask)
        if mask.size < 1000:
            assert np.array_equal(oracle(data).reshape(*mask.shape, 4)[..., 3] > 0, mask)


def test_a_stroke_by_hand() -> None:
    """2x1 pixels: one painted with single values, one clear as a run."""
    data = pack(
        (8, 32), *HEAD, (0, 1), (0, 2), (3, 3), (10, 8), (20, 8), (30, 8), (255, 8), (1, 1), (0, 2), (3, 3), (0, 8)
    )
    assert decode(data, (1, 2)).tolist() == [[True, False]]
    assert oracle(data).tolist() == [10, 20, 30, 255, 0, 0, 0, 0]


@pytest.mark.parametrize("word", [1, 3, 8])
def test_values_of_fewer_bits(word: int) -> None:
    top = (1 << word) - 1
    data = pack((4, 32), (word - 1, 5), *HEAD[1:], (0, 1), (0, 2), (3, 3), *[(top, word)] * 4)
    assert oracle(data).tolist() == [top] * 4
    assert decode(data, (1, 1)).tolist() == [[top >= 128]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "ends in the middle"),
        (pack((8, 32), *HEAD), "ends in the middle"),
        (pack((12, 32), *HEAD, (1, 1), (0, 2), (7, 3), (0, 8)), "holds 12 values, but 1x2 pixels have 8"),
        (pack((8, 32), *HEAD, (1, 1), (2, 2), (200, 8), (0, 8)), "cover more than its 8 values"),
        (pack((8, 32), *HEAD, (0, 1), (3, 2), (60000, 16), (0, 8)), "cover more than its 8 values"),
        (pack((8, 32), (31, 5), *HEAD[1:], (1, 1)), "values have 32 bits"),
        (pack((0xFFFFFFFF, 32), *HEAD, (1, 1)), "holds 4294967295 values"),
    ],
)
def test_damaged_strokes(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(data, (1, 2))


# Exports


def scene_tasks(count: int = 5) -> list[dict[str, Any]]:
    return [
        studio_task(i, [studio_brush(n, scene(i)[1] == k) for k, n in ((1, "box"), (2, "disc"))]) for i in range(count)
    ]


def masks(root: Path, **options: Any) -> dict[str, np.ndarray]:
    dataset = create_dataset("labelstudio", root, "all", **options)
    return {dataset.stem(i): dataset.read(i)[1] for i in range(len(dataset))}


def notes(root: Path) -> str:
    return " | ".join(create_dataset("labelstudio", root).notes)  # type: ignore[attr-defined]


def test_brush_strokes(tmp_path: Path) -> None:
    root = studio_json(tmp_path, scene_tasks())
    assert recognise(root)["labelstudio"].seen == "project-1-at-2024.json is Label Studio's"
    found = masks(root)
    assert set(found) == {f"photo{i}" for i in range(5)}
    for i in range(5):
        assert np.array_equal(found[f"photo{i}"], scene(i)[1])
    assert create_dataset("labelstudio", root).classes.names == ("background", "box", "disc")
    assert [len(create_dataset("labelstudio", root, split)) for split in ("train", "val")] == [4, 1]


def test_minimal_json(tmp_path: Path) -> None:
    entries = []
    for task in scene_tasks():
        regions = task["annotations"][0]["result"]
        flat = [r["value"] | {key: r[key] for key in ("original_width", "original_height")} for r in regions]
        entries.append({"image": task["data"]["image"], "id": task["id"], "tag": flat, "annotator": 1})
    root = studio_json(tmp_path, entries)
    assert list(recognise(root)) == ["labelstudio"]
    found = masks(root)
    for i in range(5):
        assert np.array_equal(found[f"photo{i}"], scene(i)[1])


def drawn(tmp_path: Path, *regions: dict[str, Any]) -> np.ndarray:
    root = studio_json(tmp_path, [studio_task(i, regions) for i in range(2)])
    return masks(root)["photo0"]


def percent(x: float, y: float) -> list[float]:
    return [x * 100 / SIZE[1], y * 100 / SIZE[0]]


def test_shapes_in_percent(tmp_path: Path) -> None:
    expected = np.zeros(SIZE, np.uint8)
    expected[3:9, 2:8] = 1
    corners = [percent(2, 3), percent(8, 3), percent(8, 9), percent(2, 9)]
    assert np.array_equal(drawn(tmp_path, studio_region("polygon", "box", points=corners, closed=True)), expected)
    (x, y), (width, height) = percent(2, 3), percent(6, 6)
    box = {"x": x, "y": y, "width": width, "height": height}
    assert np.array_equal(drawn(tmp_path, studio_region("rectangle", "box", **box, rotation=0)), expected)
    # Turned about its first corner: 90 degrees clockwise, what was right of the corner lies below it.
    (x, y), (width, height) = percent(10, 5), percent(6, 3)
    turned = studio_region("rectangle", "box", x=x, y=y, width=width, height=height, rotation=90)
    expected = np.zeros(SIZE, np.uint8)
    expected[5:11, 7:10] = 1
    assert np.array_equal(drawn(tmp_path, turned), expected)
    (x, y), (across, down) = percent(10, 8), percent(6, 3)
    ellipse = studio_region("ellipse", "box", x=x, y=y, radiusX=across, radiusY=down, rotation=0)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    assert np.array_equal(drawn(tmp_path, ellipse) == 1, ((columns - 10) / 6) ** 2 + ((rows - 8) / 3) ** 2 < 1)


def test_the_later_region_lies_on_top(tmp_path: Path) -> None:
    whole = studio_region("rectangle", "box", x=0, y=0, width=100, height=100)
    part = studio_region("rectangle", "disc", x=0, y=0, width=50, height=100)
    assert set(np.unique(drawn(tmp_path, whole, part))) == {1, 2}
    assert set(np.unique(drawn(tmp_path, part, whole))) == {1}


def test_labels_that_stand_apart_from_their_shapes(tmp_path: Path) -> None:
    value = {"x": 0, "y": 0, "width": 50, "height": 100}
    shape = {"id": "r1", "type": "rectangle", "original_width": SIZE[1], "original_height": SIZE[0], "value": value}
    label = shape | {"type": "labels", "from_name": "tag", "value": value | {"labels": ["box"]}}
    text = {"id": "r1", "type": "textarea", "value": {"text": ["x"]}}
    mask = drawn(tmp_path, shape, label, text)
    assert (mask == 1).sum() == mask.size // 2


def test_which_annotation_is_read(tmp_path: Path) -> None:
    tasks = scene_tasks(6)
    box, disc = (studio_region("rectangle", n, x=0, y=0, width=100, height=100) for n in ("box", "disc"))
    tasks[0]["annotations"] += [{"id": 1, "result": [box]}, {"id": 2, "result": [disc], "was_cancelled": True}]
    tasks[1]["annotations"] = [{"id": 1, "result": [disc], "ground_truth": True}, {"id": 2, "result": [box]}]
    tasks[2]["annotations"] = []
    tasks[3]["annotations"] = [{"id": 1, "result": []}]
    tasks[4]["annotations"] = [{"id": 1, "result": [], "was_cancelled": True}]
    found = masks(studio_json(tmp_path, tasks))
    assert set(found) == {"photo0", "photo1", "photo3", "photo5"}
    assert [np.unique(found[f"photo{i}"]).tolist() for i in (0, 1, 3)] == [[1], [2], [0]]
    said = notes(tmp_path)
    assert "2 tasks have no finished annotation and are left out" in said
    assert "2 tasks have several annotations: the ground truth is read, else the last" in said


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    point = studio_region("keypoint", "box", x=1, y=1, width=1) | {"type": "keypointlabels"}
    bare = studio_region("rectangle", "box", x=0, y=0, width=9, height=9)
    bare["value"]["rectanglelabels"] = []
    two = studio_region("rectangle", "box", x=0, y=0, width=9, height=9)
    two["value"]["rectanglelabels"] = ["disc", "box"]
    root = studio_json(tmp_path, [studio_task(i, [point, bare, two]) for i in range(2)])
    assert create_dataset("labelstudio", root).classes.names == ("background", "disc")
    said = notes(root)
    assert "not read: 2 keypointlabels" in said
    assert "2 regions have no label" in said
    assert "2 regions have several labels: the first is read" in said


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/data/upload/1/0a1b2c3d-a%20b.jpg", "/data/upload/1/0a1b2c3d-a b.jpg"),
        ("/data/local-files/?d=photos/day1/a.jpg", "photos/day1/a.jpg"),
        ("https://example.org/x/a.jpg?token=1", "/x/a.jpg"),
        ("s3://bucket/x/a.jpg", "/x/a.jpg"),
        ("http://[broken/a.jpg", "http://[broken/a.jpg"),
        ("photos\\a.jpg", "photos\\a.jpg"),
    ],
)
def test_paths_in_addresses(name: str, path: str) -> None:
    assert path_in(name) == path


@pytest.mark.parametrize(
    "image",
    [
        "/data/local-files/?d=photos/photo0.png",
        "s3://bucket/photos/photo0.png",
        "https://example.org/photo0.png?sig=1",
        "C:\\photos\\photo0.png",
        "../../../images/photo0.png",
    ],
)
def test_images_are_found_by_their_names_alone(tmp_path: Path, image: str) -> None:
    tasks = scene_tasks(2)
    del tasks[0]["file_upload"]
    tasks[0]["data"] = {"text": "x", "picture": image}
    assert np.array_equal(masks(studio_json(tmp_path, tasks))["photo0"], scene(0)[1])


def test_images_elsewhere_and_nowhere(tmp_path: Path) -> None:
    root = studio_json(tmp_path / "export", scene_tasks(2))
    (root / "images").rename(tmp_path / "photos")
    message = error_line(DataError, create_dataset, "labelstudio", root)
    assert "2 labelled images are not in" in message
    assert "data.options.images" in message
    assert np.array_equal(masks(root, images="../photos")["photo1"], scene(1)[1])
    save(tmp_path / "secret" / "photo0.png", scene(0)[0])
    assert "not in" in error_line(DataError, create_dataset, "labelstudio", root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": {"format": "rle", "rle": [1, 2], "brushlabels": ["box"]}}, "middle of a run"),
        ({"value": {"points": [[1, 2, 3]], "polygonlabels": ["box"]}}, "no list of"),
        ({"value": {"points": [[1, "x"]], "polygonlabels": ["box"]}}, "'x', which is no number"),
        ({"value": {"x": 1, "y": 1, "radiusX": None, "radiusY": 1, "ellipselabels": ["box"]}}, "radiusX is 'None'"),
        ({"value": {"x": 1e300, "y": 1, "width": 1, "height": 1, "rectanglelabels": ["box"]}}, "no number of pixels"),
        ({"image_rotation": 90}, "turned by 90 degrees"),
        ({"original_width": 25}, "pictures of different sizes"),
    ],
)
def test_damaged_regions(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    good = studio_region("rectangle", "disc", x=0, y=0, width=10, height=10)
    bad = studio_region("rectangle", "box", x=0, y=0, width=10, height=10) | change
    message = error_line(DataError, drawn, tmp_path, good, bad)
    assert words in message
    assert "photo" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"annotations": [{"result": [{"value": {"brushlabels": ["a"], "rle": [1, 999]}}]}]}]', "no list of bytes"),
        ('[{"annotations": [{"result": [{"from_name": 1', "cannot be read"),
        ('[{"from_name": ' + "[" * 100_000, "nested more than 50 deep"),
        ('["from_name"]', "is no list of tasks"),
        ('[{"from_name": 1}]', "no region with a label"),
    ],
)
def test_damaged_exports(tmp_path: Path, text: str, words: str) -> None:
    root = studio_json(tmp_path, [])
    write(root / "project-1-at-2024.json", text)
    assert words in error_line(DataError, create_dataset, "labelstudio", root)


def test_other_json_is_not_label_studios(tmp_path: Path) -> None:
    write(tmp_path / "a.json", json.dumps([{"image": "x.png", "label": 1}]))
    write(tmp_path / "b.json", json.dumps({"images": [], "annotations": []}))
    assert "labelstudio" not in recognise(tmp_path)
    assert "is no export of Label Studio" in error_line(DataError, create_dataset, "labelstudio", tmp_path)
