"""A round of labelling, as a person goes through it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featherseg
from conftest import Ended, Trained
from featherseg.core.errors import DataError
from featherseg.core.images import read_ids, write_image, write_mask
from featherseg.core.outputs import Outputs
from featherseg.core.types import ClassSet
from featherseg.data.datasets import create_dataset
from featherseg.data.readers.synthetic import STREET_CLASSES, render_street
from featherseg.labelling import label as module
from featherseg.labelling.label import label
from featherseg.runtime.predict import find_images
from featherseg.runtime.segmenter import Segmenter

SURE = 0.8
"""The tiny network is sure of some pixels and not of others."""


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Six pictures in two folders, the last two of one street."""
    for i, seed in enumerate((0, 1, 2, 3, 4, 4)):
        write_image(
            tmp_path / "frames" / ("monday" if i < 3 else "tuesday") / f"f{i}.png", render_street(seed, (64, 96))[0]
        )
    return tmp_path / "frames"


def masks(folder: Path) -> dict[str, np.ndarray]:
    root = folder / "masks"
    return {path.relative_to(root).as_posix(): read_ids(path) for path in sorted(root.rglob("*.png"))}


def test_a_round(trained: Trained, frames: Path, tmp_path: Path, run: Callable[..., Ended]) -> None:
    out = tmp_path / "round"
    ended = run("label", trained.file, frames, "-o", out, "--threshold", SURE, "--json", "-q")
    assert ended.code == 0, ended.err
    found = masks(out)
    assert list(found) == [f"monday/f{i}.png" for i in range(3)] + [f"tuesday/f{i}.png" for i in range(3, 6)]
    segmenter = Segmenter(trained.file, confidence=True)
    for name, mask in found.items():
        prediction = segmenter(frames / name)
        np.testing.assert_array_equal(mask, prediction.masked(SURE))
        assert 0 < (mask == 255).mean() < 1
    order = (out / "order.txt").read_text().split()
    assert sorted(order) == sorted(found)
    assert order[-1] in ("tuesday/f4.png", "tuesday/f5.png")  # of two that are the same, one comes last
    rows = list(csv.DictReader((out / "order.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == order == [row["image"] for row in ended.json["order"]]
    share = {row["image"]: float(row["sure"]) for row in rows}
    assert share == pytest.approx({name: (mask != 255).mean() for name, mask in found.items()}, abs=1e-5)
    assert (out / "labelled.txt").read_text() == ""
    page = (out / "label.html").read_text()
    assert page.count("<img") == 6
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    said = run("label", trained.file, frames, "-o", out, "--threshold", SURE, "-q")
    assert "0 masks written" in said.out
    assert "look through" in said.out


def test_the_folder_is_data(trained: Trained, frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "round"
    label(Segmenter(trained.file), find_images([frames]), out, threshold=SURE)
    images = str((frames / "monday").resolve())
    masks_there = str((out / "masks" / "monday").resolve())
    dataset = create_dataset("folder", out, "all", images=images, masks=masks_there)
    assert dataset.classes == STREET_CLASSES
    assert len(dataset) == 3
    assert 255 in dataset.read(0)[1]


def test_corrections_are_kept_and_what_is_like_them_comes_late(
    trained: Trained, frames: Path, tmp_path: Path, run: Callable[..., Ended]
) -> None:
    out = tmp_path / "round"
    words = ("label", trained.file, frames, "-o", out, "-q", "--json")
    assert run(*words, "--threshold", SURE).code == 0
    before = masks(out)
    truth = render_street(4, (64, 96))[1]
    corrected = out / "masks" / "tuesday" / "f4.png"
    write_mask(corrected, truth, STREET_CLASSES)
    (out / "masks" / "monday" / "f0.png").unlink()
    Image.fromarray(render_street(0, (64, 96))[1]).save(out / "masks" / "monday" / "f0.bmp")  # in another format
    ended = run(*words, "--threshold", SURE)
    assert ended.json["kept"] == ["monday/f0.png", "tuesday/f4.png"]
    assert ended.json["made"] == 0
    assert (out / "labelled.txt").read_text().split() == ["monday/f0.png", "tuesday/f4.png"]
    assert [row["image"] for row in ended.json["order"]][-1] == "tuesday/f5.png"  # the same street as f4
    # Other thresholds and networks make the network's masks anew, and leave a person's alone.
    ended = run(*words, "--threshold", 0.9)
    assert ended.json["made"] == 4
    np.testing.assert_array_equal(read_ids(corrected), truth)
    after = masks(out)
    assert "monday/f0.png" not in after
    assert (after["monday/f1.png"] == 255).sum() > (before["monday/f1.png"] == 255).sum()
    assert "Labelled already" in (out / "label.html").read_text()


def test_a_folder_of_images_and_masks_is_completed(trained: Trained, tmp_path: Path, run: Callable[..., Ended]) -> None:
    """Label 20, train, let the network label the rest, train on both."""
    photos = featherseg_photos(tmp_path / "photos", 5)
    mine = {name: (photos / "masks" / name).read_bytes() for name in ("s0.png", "s1.png")}
    for i in (2, 3, 4):
        (photos / "masks" / f"s{i}.png").unlink()
    for source in (photos / "images", photos):
        ended = run("label", trained.file, source, "-o", photos, "--threshold", SURE, "-q", "--json")
        assert ended.code == 0, ended.err
        assert ended.json["kept"] == ["s0.png", "s1.png"]
    assert {name: (photos / "masks" / name).read_bytes() for name in mine} == mine
    assert sorted(masks(photos)) == [f"s{i}.png" for i in range(5)]
    settings = ["data.val_split=all", "data.train_split=all", "model.name=jetnet", "augment.crop=[64, 64]"]
    settings += [
        f"data.labelled={photos / 'labelled.txt'}",
        "data.unlabelled=rest",
        f"data.root={photos}",
        "data.workers=0",
    ]
    ended = run("train", *settings, "train.epochs=1", "train.device=cpu", f"out={tmp_path / 'runs'}", "-q", "--json")
    assert ended.code == 0, ended.err


def featherseg_photos(root: Path, count: int) -> Path:
    for i in range(count):
        image, mask = render_street(i, (64, 96))
        write_image(root / "images" / f"s{i}.png", image)
        write_mask(root / "masks" / f"s{i}.png", mask, STREET_CLASSES)
    (root / "classes.json").write_text(json.dumps(STREET_CLASSES.to_dict()))
    return root


def test_a_stopped_call_goes_on(
    trained: Trained, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    found = find_images([frames])
    segmenter = Segmenter(trained.file)
    label(segmenter, found, whole, threshold=SURE, model=trained.file)
    usual, calls = module.look_at, []

    def killed(*given: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return usual(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "look_at", killed)
    with pytest.raises(KeyboardInterrupt):
        label(segmenter, found, broken, threshold=SURE, model=trained.file)
    result = label(segmenter, found, broken, threshold=SURE, model=trained.file)
    assert result.made == 3  # the three that were not done
    assert len(calls) == 4 + 3
    for name in ("order.csv", "order.txt", "labelled.txt"):
        assert (broken / name).read_text() == (whole / name).read_text()
    assert masks(broken).keys() == masks(whole).keys()


def test_thresholds_by_class(trained: Trained, frames: Path, tmp_path: Path, run: Callable[..., Ended]) -> None:
    out = tmp_path / "round"
    words = ("label", trained.file, frames, "-o", out, "-q", "--threshold", "0.9", "--threshold", "sky=0")
    assert run(*words).code == 0
    segmenter = Segmenter(trained.file, confidence=True)
    for name, mask in masks(out).items():
        found = segmenter(frames / name)
        kept = (found.confidence >= np.float32(0.9)) | (found.mask == STREET_CLASSES.index("sky"))
        np.testing.assert_array_equal(mask, np.where(kept, found.mask, 255))


def test_mistakes_are_one_line_and_nothing_is_lost(
    trained: Trained, frames: Path, tmp_path: Path, run: Callable[..., Ended]
) -> None:
    out = tmp_path / "round"
    words = ("label", trained.file, frames, "-o", out, "-q")
    assert run(*words, "--threshold", "skyy=0.5").refused("skyy", 'did you mean "sky"?')
    assert run(*words, "--threshold", "much").refused("'much'", "write a probability")
    assert run(*words, "--threshold", "1.5").refused("1.5")
    assert run(*words, "--to", "cvatt").refused("'cvatt'", 'did you mean "cvat"?')
    assert run(*words, "--sheet", "-1").refused("sheet is -1")
    assert run("label", trained.file, "-o", out).refused("name images or folders")
    assert run("label", trained.file, tmp_path / "none", "-o", out).refused("does not exist")
    assert not (out / "masks").exists()
    out.mkdir(exist_ok=True)
    (out / "order.csv").write_text("mine")
    assert run(*words).refused("order.csv exists and is not as featherseg wrote it")
    (out / "order.csv").unlink()
    (out / "classes.toml").write_text('names = ["cat", "dog"]\n')
    assert run(*words).refused("other classes or ids (cat, dog, …)")
    (out / "classes.toml").unlink()
    theirs = out / "masks" / "monday" / "f1.png"
    write_mask(theirs, np.zeros((5, 7), np.uint8), STREET_CLASSES)
    assert run(*words).refused("f1.png is 5x7", "is 64x96")
    assert read_ids(theirs).shape == (5, 7)
    write_mask(theirs, np.full((64, 96), 77, np.uint8), STREET_CLASSES)
    assert run(*words).refused("holds id 77")


def test_white_foreground_is_not_taken_for_unsure(tmp_path: Path) -> None:
    classes = ClassSet(("background", "crack"))
    jobs = [module._Job(tmp_path / f"{i}.jpg", tmp_path) for i in range(2)]
    white = np.zeros((8, 8), np.uint8)
    white[2:4] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(white).save(tmp_path / "masks" / "0.png")
    with pytest.raises(DataError, match="hold 0 and 255"):
        module._refuse_white(jobs, classes, Outputs())
    Image.fromarray(white // 255).save(tmp_path / "masks" / "0.png")
    module._refuse_white(jobs, classes, Outputs())


def test_it_is_public(trained: Trained, frames: Path, tmp_path: Path) -> None:
    result = featherseg.label(featherseg.Segmenter(trained.file), find_images([frames]), tmp_path / "r", threshold=SURE)
    assert 0 < result.sure < 1
    assert result.made == 6
