"""From a folder of COCO labels to a verified ONNX file: no kind named, no configuration, no code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from conftest import Ended, Trained, street
from foreign_labels import counts_of, write

Run = Callable[..., Ended]
SIZE = (64, 96)


def coco_streets(root: Path, count: int = 20) -> Path:
    """Pictures in one folder and a JSON, as a labelling program exports them; ids in no order."""
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    (root / "images").mkdir(parents=True)
    for i in range(count):
        image, mask = street(i, SIZE)
        Image.fromarray(image).save(root / "images" / f"s{i}.png")
        images.append({"id": i, "file_name": f"s{i}.png", "height": SIZE[0], "width": SIZE[1]})
        for label in (1, 2):
            rle = {"counts": counts_of(mask == label), "size": list(SIZE)}
            objects.append({"id": len(objects), "image_id": i, "category_id": 10 - label, "segmentation": rle})
    names = {9: "one", 8: "two"}
    categories = [{"id": key, "name": name} for key, name in names.items()]
    write(root / "result.json", {"images": images, "categories": categories, "annotations": objects})
    return root


def test_from_coco_to_onnx(run: Run, tmp_path: Path) -> None:
    root = coco_streets(tmp_path / "streets")
    assert run("doctor", root, "-q").code in (0, 1)
    tiny = (f"out={tmp_path / 'runs'}", "model.name=jetnet", "train.epochs=2", "train.device=cpu", "data.workers=0")
    ended = run("train", root, *tiny)
    assert ended.code == 0, ended.err
    assert "laid out as coco" in ended.err
    assert "where objects overlap, the smaller lies on top" in ended.err
    file = tmp_path / "streets.onnx"
    ended = run("export", tmp_path / "runs" / "streets", "-o", file, "-q")
    assert ended.code == 0, ended.err
    assert file.is_file()
    for words in ((), ("--data", root)):
        ended = run("eval", file if words else tmp_path / "runs" / "streets", *words, "--json", "-q")
        assert ended.code == 0, ended.err
        assert ended.json["protocol"]["images"] == 4


def test_a_kind_that_is_named_is_obeyed(run: Run, tmp_path: Path, trained: Trained) -> None:
    ended = run("eval", trained.file, "--kind", "folder", "--data", coco_streets(tmp_path / "streets"), "-q")
    assert ended.refused("neither folders nor names")
    alone = shutil.copy(trained.file, tmp_path / "alone.onnx")
    assert run("eval", alone, "--data", tmp_path / "streets", "--kind", "coco", "-q").refused("classes are not")
