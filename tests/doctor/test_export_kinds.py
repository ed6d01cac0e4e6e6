"""The doctor on exports of CVAT, Roboflow, Label Studio and others: the kind is seen, and a copy loses no pixel."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import labelled_exports as made
from featherseg.data.datasets import create_dataset, datasets
from featherseg.doctor.examine import examine
from featherseg.doctor.infer import infer_data
from featherseg.doctor.mend import make_clean_copy


def studio_strokes(root: Path) -> Path:
    tasks = [
        made.studio_task(i, [made.studio_brush(name, made.scene(i)[1] == k) for k, name in ((1, "box"), (2, "disc"))])
        for i in range(8)
    ]
    return made.studio_json(root, tasks)


def vistas(root: Path) -> Path:
    made.write(root / "config_v2.0.json", json.dumps({"labels": made.VISTAS_LABELS}))
    return made.vistas(root)


KINDS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "cvat masks": ("cvat", made.cvat_masks),
    "cvat camvid": ("cvat", made.cvat_camvid),
    "cvat xml": ("cvat", made.cvat_xml_masks),
    "roboflow": ("roboflow", made.roboflow),
    "label studio": ("labelstudio", studio_strokes),
    "label studio png": ("labelstudio", made.studio_tags),
    "class folders": ("per_class", made.per_class_folders),
    "class endings": ("per_class", made.per_class_names),
    "ade20k": ("ade20k", made.ade20k),
    "vistas": ("vistas", vistas),
    "grouped": ("grouped", made.grouped),
}


def shares(kind: str, root: Path, splits: tuple[str, ...]) -> Counter[str]:
    """Pixels by class name over some splits."""
    counts: Counter[str] = Counter()
    for split in splits:
        dataset = create_dataset(kind, root, split)
        for i in range(len(dataset)):
            for value, count in zip(*np.unique(dataset.read(i)[1], return_counts=True), strict=True):
                counts["ignored" if value == 255 else dataset.classes.names[value]] += int(count)
    return counts


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_is_seen_and_a_copy_loses_no_pixel(tmp_path: Path, name: str) -> None:
    kind, build = KINDS[name]
    root = build(tmp_path / "data")
    data = infer_data(root)
    assert data.kind == kind
    assert data.notes
    examination = examine(root)
    assert examination.layout.kind == kind
    assert not examination.count("error"), [finding.to_dict() for finding in examination.findings]
    copy = make_clean_copy(examination, tmp_path / "clean")
    assert shares("folder", copy.root, ("all",)) == shares(kind, root, ("all",))


def test_each_kind_says_how_it_resolves_what_is_unclear() -> None:
    for kind in {kind for kind, _ in KINDS.values()} | {"huggingface"}:
        about = datasets.get(kind).__doc__ or ""
        assert all(word in about for word in ("Overlaps: ", "Background", "gnored: ")), kind
