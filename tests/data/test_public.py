from __future__ import annotations

import hashlib
import shutil
import tarfile
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets.voc

from featherseg.core.errors import ConfigError
from featherseg.data.datasets import create_dataset, list_datasets
from featherseg.data.readers.public import CITYSCAPES_CLASSES
from featherseg.doctor.examine import examine
from public_files import SIZE, ids, picture, refusal


def test_the_kinds_there_are() -> None:
    assert {"voc", "cityscapes", "camvid", "folder"} <= set(list_datasets())
    with pytest.raises(ConfigError, match=r"unknown dataset 'citiscapes'; did you mean \"cityscapes\""):
        create_dataset("citiscapes", ".")
    with pytest.raises(ConfigError, match=r"has no option 'yaer'; did you mean \"year\""):
        create_dataset("voc", ".", yaer=2012)


# PASCAL VOC


def make_voc(home: Path, names: tuple[str, ...] = ("a", "b"), split: str = "train") -> Path:
    lists = home / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("\n".join(names) + "\n\n")
    mask = np.zeros(SIZE, np.uint8)
    mask[2:5, 2:6] = 255
    mask[3, 3:5] = 15
    for name in names:
        picture(home / "JPEGImages" / f"{name}.jpg")
        ids(home / "SegmentationClass" / f"{name}.png", mask, palette=True)
    return home


@pytest.mark.parametrize("root", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_palette_masks_with_their_border(tmp_path: Path, root: str) -> None:
    make_voc(tmp_path / "VOCdevkit" / "VOC2012")
    dataset = create_dataset("voc", tmp_path / root, "train")
    assert (len(dataset), dataset.stem(1), dataset.name, dataset.split) == (2, "b", "voc", "train")
    image, mask = dataset.read(0)
    assert image.shape == (*SIZE, 3)
    assert mask.dtype == np.uint8
    assert dict(zip(*np.unique(mask, return_counts=True), strict=True)) == {0: 36, 15: 2, 255: 10}


def test_voc_refusals(tmp_path: Path) -> None:
    assert "VOC2012 not found under" in refusal("voc", tmp_path)
    home = make_voc(tmp_path / "VOC2012")
    assert "split 'vall' not found" in refusal("voc", tmp_path, "vall")
    assert "splits there: train" in refusal("voc", tmp_path, "val")
    with pytest.raises(ConfigError, match="year is 2013"):
        create_dataset("voc", tmp_path, year=2013)
    ids(home / "SegmentationClass" / "a.png", np.full(SIZE, 21), palette=True)
    message = refusal("voc", tmp_path, read=True)
    assert str(home / "SegmentationClass" / "a.png") in message
    assert "id 21 (row 0, column 0)" in message
    ids(home / "SegmentationClass" / "a.png", np.zeros((4, 4)))
    assert "is 4x4 but image" in refusal("voc", tmp_path, read=True)
    (home / "SegmentationClass" / "a.png").unlink()
    message = refusal("voc", tmp_path)
    assert "a.jpg has no mask" in message
    (home / "JPEGImages" / "a.jpg").unlink()
    assert "a.jpg is listed but does not exist" in refusal("voc", tmp_path)
    (home / "ImageSets" / "Segmentation" / "train.txt").write_text("\n")
    assert "holds no samples" in refusal("voc", tmp_path)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A small VOC archive behind torchvision's own download code, with only the network replaced."""
    source = tmp_path / "source" / "VOCdevkit" / "VOC2012"
    make_voc(make_voc(source), ("c",), "val")
    tar = tmp_path / "voc.tar"
    with tarfile.open(tar, "w") as file:
        file.add(tmp_path / "source" / "VOCdevkit", "VOCdevkit")
    served: dict[str, Any] = {"data": tar.read_bytes(), "fetched": 0, "entry": {}}
    entry = {
        "url": "https://example.org/voc.tar",
        "filename": "voc.tar",
        "md5": hashlib.md5(served["data"]).hexdigest(),
        "base_dir": "VOCdevkit/VOC2012",
    }
    served["entry"] = entry

    def retrieve(url: str, filename: str) -> None:
        served["fetched"] += 1
        Path(filename).write_bytes(served["data"])

    monkeypatch.setitem(torchvision.datasets.voc.DATASET_YEAR_DICT, "2012", entry)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    return served


def entries(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir())


def test_voc_is_downloaded_once(tmp_path: Path, archive: dict[str, Any]) -> None:
    root = tmp_path / "new" / "data"
    assert len(create_dataset("voc", root, "train", download=True)) == 2
    assert create_dataset("voc", root, "val", download=True).read(0)[1].max() == 255
    assert archive["fetched"] == 1
    assert entries(root) == ["VOCdevkit", "voc.tar"]


def test_other_years_lie_at_the_usual_place_too(tmp_path: Path, archive: dict[str, Any]) -> None:
    """The archive of 2011 has a folder of its own above VOCdevkit."""
    archive["entry"]["base_dir"] = "TrainVal/VOCdevkit/VOC2012"
    with tarfile.open(tmp_path / "voc.tar", "w") as file:
        file.add(tmp_path / "source", "TrainVal")
    archive["data"] = (tmp_path / "voc.tar").read_bytes()
    archive["entry"]["md5"] = hashlib.md5(archive["data"]).hexdigest()
    create_dataset("voc", tmp_path / "data", "train", download=True)
    assert entries(tmp_path / "data") == ["VOCdevkit", "voc.tar"]


def test_a_torn_archive_is_fetched_anew(tmp_path: Path, archive: dict[str, Any]) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "voc.tar").write_bytes(archive["data"][:3000])
    assert len(create_dataset("voc", root, "train", download=True)) == 2
    assert archive["fetched"] == 1
    assert (root / "voc.tar").read_bytes() == archive["data"]


def test_a_whole_archive_is_not_fetched_again(tmp_path: Path, archive: dict[str, Any]) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "voc.tar").write_bytes(archive["data"])
    create_dataset("voc", root, "train", download=True)
    assert archive["fetched"] == 0


@pytest.mark.parametrize("missing", ["SegmentationClass/b.png", "ImageSets/Segmentation/train.txt", "JPEGImages/a.jpg"])
def test_a_half_unpacked_folder_is_not_taken_for_whole(tmp_path: Path, archive: dict[str, Any], missing: str) -> None:
    root = tmp_path / "data"
    home = make_voc(root / "VOCdevkit" / "VOC2012")
    (home / missing).unlink()
    (home / "mine.txt").write_text("kept")
    refusal("voc", root)
    assert len(create_dataset("voc", root, "train", download=True)) == 2
    assert archive["fetched"] == 1
    assert (home / "mine.txt").read_text() == "kept"
    assert len(create_dataset("voc", root, "val")) == 1


def test_unpacking_that_is_cut_short_leaves_no_dataset(
    tmp_path: Path, archive: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"

    def half(from_path: str, to_path: str, compression: str | None) -> None:
        with tarfile.open(from_path) as tar:
            for member in tar.getmembers()[:6]:
                tar.extract(member, to_path, filter="data")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setitem(torchvision.datasets.utils._ARCHIVE_EXTRACTORS, ".tar", half)
        message = refusal("voc", root, download=True)
    assert "could not be downloaded" in message
    assert "No space left" in message
    assert entries(root) == ["voc.tar"]
    assert "not found under" in refusal("voc", root)
    assert len(create_dataset("voc", root, download=True)) == 2


def test_a_wrong_checksum_and_no_network_are_one_line(
    tmp_path: Path, archive: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive["data"] = archive["data"][:5000]
    assert "corrupted" in refusal("voc", tmp_path / "data", download=True)

    def offline(*arguments: Any, **options: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", offline)
    message = refusal("voc", tmp_path / "other", download=True)
    assert "Name or service not known" in message
    assert "fetch it by hand from https://example.org/voc.tar" in message


# Cityscapes


def make_cityscapes(root: Path, values: Any) -> Path:
    values = np.asarray(values, np.uint8)
    for city, frame in (("ulm", "000001_000019"), ("aachen", "000000_000019")):
        picture(root / "leftImg8bit" / "train" / city / f"{city}_{frame}_leftImg8bit.png", values.shape)
        ids(root / "gtFine" / "train" / city / f"{city}_{frame}_gtFine_labelIds.png", values)
    return root


def test_all_34_cityscapes_ids_have_their_place(tmp_path: Path) -> None:
    """Against cityscapesScripts' labels.py, written out: 255 is the licence plate's -1 in uint8."""
    train_ids = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12}
    train_ids |= {26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    dataset = create_dataset("cityscapes", make_cityscapes(tmp_path, [[*range(34), 255]]))
    assert [train_ids.get(i, 255) for i in (*range(34), 255)] == dataset.read(0)[1][0].tolist()
    assert sorted(train_ids.values()) == list(range(19))
    assert dataset.classes == CITYSCAPES_CLASSES
    assert [dataset.stem(i) for i in range(2)] == [
        "aachen_000000_000019_leftImg8bit",
        "ulm_000001_000019_leftImg8bit",
    ]


def test_cityscapes_refusals(tmp_path: Path) -> None:
    make_cityscapes(tmp_path, [[7, 34]])
    assert "id 34 (row 0, column 1)" in refusal("cityscapes", tmp_path, read=True)
    assert "Cityscapes split 'val' not found" in refusal("cityscapes", tmp_path, "val")
    next((tmp_path / "gtFine" / "train" / "aachen").iterdir()).unlink()
    assert "has no mask" in refusal("cityscapes", tmp_path)
    (tmp_path / "leftImg8bit" / "val").mkdir()
    assert "split 'val' holds no samples" in refusal("cityscapes", tmp_path, "val")


def test_voc_with_more_masks(tmp_path: Path) -> None:
    for home, value in (("SegmentationClass", 1), ("SegmentationClassAug", 2)):
        ids(tmp_path / home / "a.png", [[value]])
    picture(tmp_path / "JPEGImages" / "a.jpg", (1, 1))
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split in ("train", "trainaug"):
        (tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("a\n")
    assert create_dataset("voc", tmp_path).read(0)[1].tolist() == [[1]]
    more = create_dataset("voc", tmp_path, "trainaug", masks="SegmentationClassAug")
    assert more.read(0)[1].tolist() == [[2]]
    with pytest.raises(ConfigError, match="no folder in"):
        create_dataset("voc", tmp_path, masks="../SegmentationClass")
    shutil.rmtree(tmp_path / "SegmentationClass")
    assert create_dataset("voc", tmp_path).read(0)[1].tolist() == [[2]]


# The real files


@pytest.mark.parametrize(
    ("kind", "place", "split", "count", "shape"),
    [
        ("camvid", "data/CamVid", "train", 367, (360, 480)),
        ("camvid", "data/CamVid", "val", 101, (360, 480)),
        ("voc", "data", "train", 400, None),
        ("voc", "data/VOCdevkit", "val", 150, None),
        ("cityscapes", "data/cityscapes", "train", 2, (1024, 2048)),
    ],
)
def test_the_datasets_beside_the_project(
    shared: Path, kind: str, place: str, split: str, count: int, shape: Any
) -> None:
    if not (shared / place).is_dir():
        pytest.skip(f"needs {shared / place}")
    dataset = create_dataset(kind, shared / place, split)
    assert len(dataset) == count
    image, mask = dataset.read(count - 1)
    assert image.shape == (*mask.shape, 3)
    assert shape is None or mask.shape == shape
    assert set(np.unique(mask)) <= {*range(len(dataset.classes)), 255}
    assert len(np.unique(mask)) > 2


def test_cityscapes_of_train_ids_is_read_and_other_masks_are_named(tmp_path: Path) -> None:
    make_cityscapes(tmp_path, [[0, 18, 255]])
    for mask in (tmp_path / "gtFine").rglob("*.png"):
        mask.rename(mask.with_name(mask.name.replace("labelIds", "labelTrainIds")))
    dataset = create_dataset("cityscapes", tmp_path)
    assert dataset.read(0)[1].tolist() == [[0, 18, 255]]
    assert "labelTrainIds" in dataset.notes[0]  # type: ignore[attr-defined]
    said = examine(tmp_path)
    assert said.layout.splits == ("train",)
    assert said.pixels["train"][0] == said.pixels["train"][18] == 2
    for mask in (tmp_path / "gtFine").rglob("*.png"):
        mask.rename(mask.with_name(mask.name.replace("labelTrainIds", "color")))
    message = refusal("cityscapes", tmp_path)
    assert "no *_gtFine_labelIds.png" in message
    assert "*_gtFine_color.png" in message
