"""Exports of labelling programs of any content: class ids of the picture's size, or one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import Edit, answer, bounded, check_line, edits, fuzzed, listing, mutated, tampered, tree_changes
from hypothesis import given
from hypothesis import strategies as st

from featherseg.core.errors import DataError, FeathersegError
from featherseg.data.annotations import AnnotatedDataset, recognise
from featherseg.data.brush_rle import decode, encode
from featherseg.data.datasets import create_dataset
from featherseg.data.label_maps import read_label_colors, read_label_map
from featherseg.data.xml_files import read_xml
from labelled_exports import (
    SIZE,
    VISTAS_LABELS,
    ade20k,
    cvat_camvid,
    cvat_mask,
    cvat_masks,
    cvat_xml,
    roboflow,
    save,
    scene,
    studio_json,
    studio_region,
    studio_task,
    vistas,
)


def check(kind: str, root: Path) -> None:
    """All of a folder that may say anything: nothing but datasets and refusals, and no file outside."""
    answer(recognise, root)
    found = answer(create_dataset, kind, root, "all")
    if isinstance(found, FeathersegError):
        assert isinstance(found, DataError)
        return
    assert isinstance(found, AnnotatedDataset)
    assert 1 <= len(found.classes) <= 255
    assert all(len(note) < 2000 and "\n" not in note for note in found.notes)
    for i, sample in enumerate(found.samples[:2]):
        assert sample.image.resolve().is_relative_to(root.resolve())
        assert sample.annotation.file.resolve().is_relative_to(root.resolve())
        read = answer(found.read, i)
        if not isinstance(read, FeathersegError):
            assert read[1].shape == read[0].shape[:2]
            assert set(np.unique(read[1])) <= {*range(len(found.classes)), 255}


def xml_scene(root: Path) -> Path:
    ids = scene(0)[1]
    shapes = cvat_mask("Box", ids == 1) + '<polygon label="Disc" points="1,2;8,2;8,9.5" z_order="1"/>'
    shapes += '<ellipse label="Box" cx="5" cy="5" rx="3" ry="2" rotation="20"/>'
    shapes += '<box label="Disc" xtl="1" ytl="1" xbr="4" ybr="5"/>'
    return cvat_xml(root, [shapes] * 2)


REGIONS = [
    studio_region("brush", "box", format="rle", rle=list(encode(scene(0)[1] == 1))),
    studio_region("polygon", "disc", points=[[1, 2], [30, 2], [30, 40]]),
    studio_region("rectangle", "box", x=1, y=2, width=30, height=40, rotation=10),
    studio_region("ellipse", "disc", x=50, y=50, radiusX=10, radiusY=20, rotation=0),
]
TASKS = [studio_task(i, REGIONS) for i in range(2)]


def vistas_with_names(root: Path) -> Path:
    (vistas(root) / "config_v2.0.json").write_text(json.dumps({"labels": VISTAS_LABELS}))
    return root


Build = Callable[[Path], Path]
FILES: dict[str, tuple[Build, str]] = {
    "cvat labelmap": (lambda root: cvat_masks(root, 2), "labelmap.txt"),
    "cvat list": (lambda root: cvat_masks(root, 2), "ImageSets/Segmentation/default.txt"),
    "cvat colours": (lambda root: cvat_camvid(root, 2), "label_colors.txt"),
    "cvat camvid list": (lambda root: cvat_camvid(root, 2), "default.txt"),
    "cvat xml": (xml_scene, "annotations.xml"),
    "roboflow": (lambda root: roboflow(root, (2, 1, 1)), "train/_classes.csv"),
    "labelstudio": (lambda root: studio_json(root, TASKS), "project-1-at-2024.json"),
    "ade20k": (lambda root: ade20k(root, (2, 1), "1\ta;b\n2\tc\n3\td\n"), "objectInfo150.txt"),
    "vistas": (vistas_with_names, "config_v2.0.json"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each export, and a secret beside them that no name may lead to."""
    home = tmp_path_factory.mktemp("exports")
    for name, (build, _) in FILES.items():
        build(home / name)
    for secret in ("secret.png", "secret.jpg", "frame_000000.png"):
        save(home / secret, np.zeros((*SIZE, 3), np.uint8))
    return home


ORIGINALS: dict[str, bytes] = {}


@pytest.mark.parametrize("name", FILES)
@fuzzed(60)
@given(changes=edits())
def test_damaged_files(place: Path, name: str, changes: list[Edit]) -> None:
    file = place / name / FILES[name][1]
    original = ORIGINALS.setdefault(name, file.read_bytes())
    try:
        file.write_bytes(mutated(original, changes))
        check(name.split()[0], place / name)
    finally:
        file.write_bytes(original)


@pytest.mark.parametrize("name", ["labelstudio", "vistas"])
@fuzzed(120)
@given(changes=tree_changes())
def test_json_of_any_content(place: Path, name: str, changes: list[tuple[float, Any]]) -> None:
    file = place / name / FILES[name][1]
    original = ORIGINALS.setdefault(name, file.read_bytes())
    try:
        text = json.dumps(tampered(json.loads(original), changes))
        file.write_bytes(text.encode(errors="surrogatepass"))
        check(name, place / name)
    finally:
        file.write_bytes(original)


KEYS = ("left", "top", "width", "height", "z_order", "rle", "rotation", "rx", "cx", "points", "xbr", "label")
NUMBERS = ("0", "-1", "1e9", "1e400", "nan", "inf", "", "x", "3;4", "9" * 5000, "0.5", "2147483648", "7")


@fuzzed(150)
@given(values=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(NUMBERS), max_size=5))
def test_xml_with_any_numbers(place: Path, values: dict[str, str]) -> None:
    file = place / "cvat xml" / "annotations.xml"
    original = ORIGINALS.setdefault("cvat xml", file.read_bytes())
    text = original.decode()
    for key, value in values.items():
        head, _, rest = text.partition(f' {key}="')
        text = f'{head} {key}="{value}"{rest.partition(chr(34))[2]}' if rest else text
    try:
        file.write_text(text)
        check("cvat", place / "cvat xml")
    finally:
        file.write_bytes(original)


NAMES = ("../secret", "/etc/passwd", "..", "a/../../secret", "\\\\host\\secret", "C:\\secret", "x" * 300, "\x00", "")


@fuzzed(60)
@given(name=st.sampled_from(NAMES) | st.text(max_size=20))
def test_names_lead_nowhere_else(place: Path, name: str) -> None:
    before = listing(place / "cvat list")
    text = name.encode(errors="surrogatepass")
    for kind, file in (("cvat list", "ImageSets/Segmentation/default.txt"), ("cvat camvid list", "default.txt")):
        path = place / kind / file
        original = ORIGINALS.setdefault(kind, path.read_bytes())
        try:
            path.write_bytes(text + b"\n" + original)
            check("cvat", place / kind)
        finally:
            path.write_bytes(original)
    task = [TASKS[0] | {"file_upload": name, "data": {"image": f"{name}.png"}}]
    path = place / "labelstudio" / FILES["labelstudio"][1]
    original = ORIGINALS.setdefault("labelstudio", path.read_bytes())
    try:
        path.write_bytes(json.dumps(task).encode())
        check("labelstudio", place / "labelstudio")
    finally:
        path.write_bytes(original)
    assert listing(place / "cvat list") == before


def line_or(action: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `action` returns, or None where it refuses with one line."""
    with bounded():
        try:
            return action(*arguments)
        except ValueError as error:
            check_line(str(error))
            return None


GOOD = encode(scene(0)[1] == 1)


@fuzzed(400)
@given(changes=edits())
def test_brush_strokes_of_any_content(changes: list[Edit]) -> None:
    mask = line_or(decode, mutated(GOOD, changes), SIZE)
    assert mask is None or mask.shape == SIZE


@fuzzed(200)
@given(data=st.binary(max_size=60))
def test_any_bytes_as_xml_and_label_maps(place: Path, data: bytes) -> None:
    file = place / "any.txt"
    file.write_bytes(data)
    for read in (read_label_map, read_label_colors):
        found = answer(read, file)
        assert isinstance(found, list | DataError)
    line_or(read_xml, file)


HEAD = "<annotations><version>1.1</version>"
GROWING = "".join(f'<!ENTITY b{i + 1} "&b{i};&b{i};">' for i in range(50))
BOMBS = (
    f'<!DOCTYPE a [<!ENTITY b0 "{"ha" * 1000}">{GROWING}]>{HEAD}&b50;</annotations>',
    f'<!DOCTYPE a [<!ENTITY % b SYSTEM "file:///etc/passwd">%b;]>{HEAD}</annotations>',
    HEAD + "<a>" * 100_000,
    f'{HEAD}<image a="1" a="1"/></annotations>',
    f"{HEAD}{'<image/>' * 20_000}</annotations>",
    f"<?xml version='1.0' encoding='nonsense'?>{HEAD}</annotations>",
    f"{HEAD}<meta><label><name>{'n' * 100_000}</name></label></meta></annotations>",
)


@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_bombs_in_xml(tmp_path: Path, text: str) -> None:
    (tmp_path / "annotations.xml").write_text(text)
    assert isinstance(answer(create_dataset, "cvat", tmp_path), DataError)
