"""The examination: its parts against plain oracles, hostile folders, and datasets that are right in other ways."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zoo
from PIL import Image

from featherseg.core.errors import ConfigError, DataError
from featherseg.core.recipes import config_from_dict
from featherseg.core.types import ClassSet
from featherseg.data.datasets import SegmentationDataset, create_dataset
from featherseg.data.readers.public import CAMVID_32, CAMVID_CLASSES
from featherseg.doctor.examine import examine, in_parallel, quick_check
from featherseg.doctor.infer import infer_data
from featherseg.doctor.meaning import Meaning, pack, unpack
from featherseg.doctor.near_duplicates import difference_hash, near, recordings, thumbnail
from featherseg.doctor.probe import black_border


def ids(root: Path, **options: Any) -> set[str]:
    return {finding.id for finding in examine(root, **options).findings}


def pixels(dataset: SegmentationDataset) -> tuple[int, ...]:
    masks = np.concatenate([dataset.read(i)[1].ravel() for i in range(len(dataset))])
    return tuple(int((masks == i).sum()) for i in range(len(dataset.classes)))


# Parts


def test_difference_hash_is_that_of_the_definition() -> None:
    image = zoo.picture(3, (72, 90))[0]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    cells = grey.reshape(8, 9, 9, 10).mean(axis=(1, 3))  # 9 x 10 pixels a cell
    bits = "".join("1" if np.round(b) > np.round(a) else "0" for row in cells for a, b in pairwise(row))
    assert (int(bits, 2) ^ difference_hash(image)).bit_count() <= 2  # rounding of a cell's mean


def test_near_finds_what_comparing_all_finds() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 700, dtype=np.uint64)
    thumbs = rng.integers(0, 255, (700, 8, 8, 3)).astype(np.uint8)
    hashes[650], thumbs[650] = hashes[3] ^ np.uint64(0b1111), thumbs[3]
    hashes[20] = hashes[10]  # of another look: a chance hit
    assert near(hashes, thumbs, hashes, thumbs, earlier=True) == {650: 3}
    assert near(hashes[600:], thumbs[600:], hashes[:600], thumbs[:600]) == {50: 3}
    assert near(hashes[:0], thumbs[:0], hashes, thumbs) == {}


def test_near_survives_scaling_and_compression() -> None:
    image = zoo.picture(3)[0]
    other = cv2.resize(image, (150, 100))[..., ::1]
    hashes = np.array([difference_hash(image), difference_hash(other)], np.uint64)
    thumbs = np.stack([thumbnail(image), thumbnail(other)])
    assert near(hashes, thumbs, hashes, thumbs, earlier=True) == {1: 0}


def test_recordings_need_numbers_and_likeness() -> None:
    drive = np.array([(1 << i) - 1 for i in range(12)], np.uint64)
    names = [f"drive_{i}" for i in range(12)]
    assert recordings(names[::-1], drive) == [tuple(range(11, -1, -1))]
    assert recordings([f"{chr(97 + i)}" for i in range(12)], drive) == []
    strangers = np.random.default_rng(0).integers(0, 2**63, 12, dtype=np.uint64)
    assert recordings(names, strangers) == []


def test_black_border() -> None:
    image = np.full((50, 80, 3), 90, np.uint8)
    assert black_border(image) == (0, 0, 0, 0)
    image[:5], image[:, -8:], image[-1] = 3, 0, 0
    assert black_border(image) == (5, 8, 0, 0)  # one row is too little to be a border


@pytest.mark.parametrize("colour", [False, True])
def test_labels_against_a_loop(colour: bool) -> None:
    rng = np.random.default_rng(0)
    keys = rng.choice(1 << 24 if colour else 300, 20, replace=False)
    table = {int(key): i for i, key in enumerate(keys)}
    meaning = Meaning(ClassSet(tuple(f"c{i}" for i in range(20))), {} if colour else table, table if colour else {})
    values = np.concatenate([keys, rng.choice(1 << 24 if colour else 300, 5000)])
    exact, snapped = meaning.labels(values, colour), meaning.labels(values, colour, snap=True)

    def apart(value: int, key: int) -> int:
        one, other = (unpack(np.array([v]))[0] if colour else np.array([v]) for v in (value, key))
        return int(((one.astype(int) - other) ** 2).sum())

    for value, label, close in zip(values[:300].tolist(), exact, snapped, strict=False):
        assert label == table.get(value, -1)
        assert apart(value, int(keys[close])) == min(apart(value, int(key)) for key in keys)


def test_snapping_needs_values_that_lie_apart() -> None:
    def meaning(*colors: tuple[int, int, int]) -> Meaning:
        return Meaning(ClassSet(("a", "b")), {0: 0, 255: 1}, {pack(color): i for i, color in enumerate(colors)})

    assert meaning((0, 0, 0), (40, 0, 0)).can_snap(True)
    assert not meaning((0, 0, 0), (39, 39, 39)).can_snap(True)
    assert meaning((0, 0, 0), (9, 9, 9)).can_snap(False)
    assert not Meaning.identity(ClassSet(("a", "b"))).can_snap(False)


def test_in_parallel_keeps_order_stops_and_raises() -> None:
    assert list(in_parallel(lambda n: n * n, range(100))) == [n * n for n in range(100)]
    begun: list[int] = []
    assert len(list(in_parallel(begun.append, range(100), lambda: len(begun) >= 5))) < 20

    def fail(n: int) -> int:
        raise ValueError(n)

    with pytest.raises(ValueError, match="0"):
        list(in_parallel(fail, range(50)))


# Right in other ways: no false alarms


def test_pixels_and_sizes_are_counted(tmp_path: Path) -> None:
    root = zoo.clean_folder(tmp_path)
    examination = examine(root)
    for split in ("train", "val"):
        assert examination.pixels[split] == pixels(create_dataset("folder", root, split))
        assert sum(examination.pixels[split]) == 64 * 96 * {"train": 9, "val": 3}[split]
    assert examination.sizes == {(64, 96): 12}


def test_the_classes_are_the_loaders(tmp_path: Path) -> None:
    root = zoo.clean_folder(tmp_path)
    (root / "classes.toml").unlink()
    for i in range(12):
        masked = Image.fromarray(zoo.picture(i)[1])
        masked.putpalette([part for color in zoo.COLORS for part in color])
        masked.save(zoo.mask(root, i))
    examination = examine(root)
    assert examination.findings == ()
    assert examination.meaning is not None
    assert examination.meaning.classes == create_dataset("folder", root, "train").classes


@pytest.mark.parametrize("at", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_from_any_of_its_roots(at: str, tmp_path: Path) -> None:
    assert ids(zoo.clean_voc(tmp_path) / at) == set()


@pytest.mark.parametrize("lists", [True, False])
def test_camvid_as_published(lists: bool, tmp_path: Path) -> None:
    colors = np.array([CAMVID_32[name][-1] for name in CAMVID_CLASSES.names] + [(0, 0, 0)], np.uint8)
    for i in range(zoo.TRAIN + zoo.VAL):
        split = "train" if i < zoo.TRAIN else "val"
        image, mask = zoo.picture(i)[0], zoo.blocks(i, (32, 16), 12, 5)
        places = ("701_StillsRaw_full", "LabeledApproved_full") if lists else (split, f"{split}_labels")
        zoo.save(tmp_path / places[0] / f"{zoo.stem(i)}.png", image)
        zoo.save(tmp_path / places[1] / f"{zoo.stem(i)}_L.png", colors[mask])
    if lists:
        zoo.write_lists(tmp_path, "{}.png")
    examination = examine(tmp_path)
    assert examination.layout.kind == "camvid"
    assert examination.findings == ()
    dataset = create_dataset("camvid", tmp_path, "val")
    assert [(p.image, p.mask) for p in examination.layout.pairs if p.split == "val"] == list(dataset.pairs)
    assert examination.pixels["val"] == pixels(dataset)


def test_what_is_usual_is_no_finding(tmp_path: Path) -> None:
    """A preview behind a JPEG, an alpha channel that hides nothing, links, hidden files, a test set without masks."""
    root = zoo.clean_folder(tmp_path / "data")
    frames = [Image.fromarray(zoo.picture(i)[0]) for i in (0, 50)]
    zoo.image(root).unlink()
    frames[0].save(zoo.image(root).with_suffix(".jpg"), format="MPO", save_all=True, append_images=frames[1:])
    opaque = np.concatenate([zoo.picture(1)[0], np.full((*zoo.SIZE, 1), 255, np.uint8)], axis=2)
    zoo.save(zoo.image(root, 1), opaque)
    kept = zoo.image(root, 2).rename(tmp_path / "elsewhere.png")
    zoo.image(root, 2).symlink_to(kept)
    (root / "images" / "train" / "._b_scene.png").write_bytes(b"Mac")
    (root / "images" / "train" / "Thumbs.db").write_bytes(b"Windows")
    zoo.save(root / "images" / "test" / "z.png", zoo.picture(50)[0])
    assert ids(root) == set()


def test_classes_in_the_users_words(tmp_path: Path) -> None:
    root = zoo.clean_folder(tmp_path)
    (root / "classes.toml").unlink()
    assert ids(root, classes="sky, road,car") == set()
    assert "unknown-ids" in ids(root, classes="sky,road")
    file = tmp_path / "mine.toml"
    file.write_text('names = ["sky", "road", "car"]\nids = [2, 0, 1]\n')
    examination = examine(root, classes=str(file))
    assert examination.findings == ()
    inferred = examine(root).pixels["train"]
    assert examination.pixels["train"] == (inferred[2], inferred[0], inferred[1])
    with pytest.raises(ConfigError, match="names such as"):
        examine(root, classes="sky,,car")
    with pytest.raises(DataError, match="does not exist"):
        examine(root, classes="nowhere.toml")


def test_stride(tmp_path: Path) -> None:
    root = zoo.clean_folder(tmp_path)
    assert ids(root, stride=8) == set()
    assert ids(root, stride=64) == {"class-too-thin"}
    detail = examine(root, stride=16).detail
    assert detail is not None
    assert [stride for stride, _ in detail.kept] == [16, 4, 2]
    assert detail.masks == zoo.TRAIN + zoo.VAL
    assert examine(root, stride=1).to_dict()["detail"]["kept"] == [
        {"stride": 1, "scale": 1.0, "dice": {"sky": 1.0, "road": 1.0, "car": 1.0}}
    ]
    assert quick_check(root).to_dict()["detail"] is None  # trainings measure what they are going to see
    with pytest.raises(ConfigError, match="stride is 0"):
        examine(root, stride=0)


# Hostile


def test_damaged_bytes_never_raise(tmp_path: Path) -> None:
    root, rng = zoo.clean_folder(tmp_path), np.random.default_rng(0)
    for i in range(0, 12, 2):
        zoo.image(root, i).unlink()
        zoo.save(zoo.image(root, i).with_suffix((".jpg", ".webp", ".tif")[i // 2 % 3]), zoo.picture(i)[0])
    whole = {path: path.read_bytes() for part in ("images", "masks") for path in (root / part).rglob("*.*")}
    seen: Counter[str] = Counter()
    for _ in range(12):
        for path, data in whole.items():
            damaged = bytearray(data)
            for place in rng.integers(0, min(len(damaged), 400), 6):
                damaged[place] = rng.integers(0, 256)
            path.write_bytes(damaged)
        seen.update(finding.id for finding in examine(root).findings)
    assert {"image-unreadable", "mask-unreadable"} <= set(seen)


def test_names_that_cannot_be_printed(tmp_path: Path) -> None:
    root = zoo.clean_folder(tmp_path)
    for part in ("images", "masks"):
        first = root / part / "train" / f"{zoo.stem(0)}.png"
        first.rename(Path(os.fsdecode(os.fsencode(first.parent) + b"/\xff <b>new\nline.png")))
    (root / "masks" / "train" / "b_scene.png").rename(root / "masks" / "train" / "b\u202eother.png")
    examination = examine(root)
    assert {f.id for f in examination.findings} == {"image-without-mask", "mask-without-image"}
    text = json.dumps(examination.to_dict()) + str([f.examples for f in examination.findings])
    assert "\u202e" not in text
    text.encode()


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that another user may enter, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="doctor") as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
@pytest.mark.parametrize(("place", "named"), [("images/train/a_scene.png", "a_scene.png"), ("masks/val", "masks/val/")])
def test_what_may_not_be_read(place: str, named: str, public_folder: Path) -> None:
    root = zoo.clean_folder(public_folder)
    examine(root)  # imports what it needs as the user who may
    (root / place).chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # the superuser may read everything
    try:
        examination = examine(root)
    finally:
        os.seteuid(user)
        (root / place).chmod(0o755)
    found = {finding.id: finding for finding in examination.findings}
    assert any(named in example for example in found["no-permission"].examples)
    assert found["no-permission"].severity == "error"


@pytest.mark.parametrize("kind", [None, "folder", "voc", "camvid", "cityscapes"])
def test_folders_that_are_no_dataset(kind: str | None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        examine(tmp_path / "nowhere", kind)
    (tmp_path / "notes.txt").touch()
    if kind is None:
        with pytest.raises(DataError, match="no kind that is known"):
            examine(tmp_path)
    else:
        assert "no-pairs" in ids(tmp_path, kind=kind)
    with pytest.raises(ConfigError, match='did you mean "folder"'):
        examine(tmp_path, "foldr")


# Before a training


def test_quick_check_sees_what_every_file_has_and_no_absent_classes(tmp_path: Path) -> None:
    root = zoo.clean_folder(tmp_path)
    assert quick_check(root).findings == ()
    assert quick_check(root, sample=2).findings == ()
    assert quick_check(root, seconds=0).facts == ()
    for i in range(12):
        zoo.save(zoo.mask(root, i), zoo.picture(i)[1] + 1)
    found = quick_check(root, sample=4)
    assert {finding.id for finding in found.findings} == {"ids-shifted"}
    assert (len(found.facts), found.sampled) == (4, True)
    assert "4 of them looked at" in found.summary()
    with pytest.raises(ConfigError, match="sample is 0"):
        quick_check(root, sample=0)


@pytest.mark.parametrize("kind", ["folder", "voc", "camvid", "cityscapes"])
def test_infer_data_opens_what_it_found(kind: str, tmp_path: Path) -> None:
    root = getattr(zoo, f"clean_{kind}")(tmp_path)
    found = infer_data(root)
    data = config_from_dict(found.to_config()).data
    dataset = create_dataset(data.name, data.root, data.val_split, **data.options)
    assert (data.name, len(dataset)) == (kind, zoo.VAL)
    assert found.classes == dataset.classes
    assert found.to_config() == {"data": {"name": kind, "root": str(root)}}


def test_infer_data_with_other_names(tmp_path: Path) -> None:
    root = zoo.clean_folder(tmp_path)
    (root / "classes.toml").unlink()
    (root / "images").rename(root / "imgs")
    (root / "masks").rename(root / "Labels")
    for part in ("imgs", "Labels"):
        (root / part / "val").rename(root / part / "valid")
    found = infer_data(root)
    data = config_from_dict(found.to_config()).data
    assert (data.val_split, data.options) == ("valid", {"images": "imgs", "masks": "Labels"})
    assert len(create_dataset(data.name, data.root, data.val_split, **data.options)) == zoo.VAL
    assert found.classes is not None
    assert found.classes.names == ("class_0", "class_1", "class_2")
    assert any("name them in classes.toml" in note for note in found.notes)
    assert {finding.id for finding in examine(root).findings} == {"split-names"}


def test_infer_data_of_another_year(tmp_path: Path) -> None:
    root = zoo.clean_voc(tmp_path)
    (root / "VOCdevkit" / "VOC2012").rename(root / "VOCdevkit" / "VOC2007")
    data = config_from_dict(infer_data(root).to_config()).data
    assert len(create_dataset(data.name, data.root, data.val_split, **data.options)) == zoo.VAL


@pytest.mark.parametrize(
    ("name", "words"),
    [("images_and_masks_side_by_side_and_one_gone", "--fix"), ("no_names_in_common", "no image")],
)
def test_infer_data_refuses_what_no_loader_reads(name: str, words: str, tmp_path: Path) -> None:
    zoo.clean_folder(tmp_path)
    zoo.ZOO[name].build(tmp_path)
    with pytest.raises(DataError, match=words):
        infer_data(tmp_path)


# The real ones


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "findings"),
    [
        ("CamVid", {"same-recording", "near-duplicates", "class-too-thin", "class-thin"}),
        ("VOCdevkit", {"constant-border"}),
        ("cityscapes", {"no-val-split", "class-absent", "class-rare", "statistics-far", "class-thin"}),
    ],
)
def test_real_datasets(place: str, findings: set[str], shared: Path) -> None:
    assert ids(shared / "data" / place) == findings
    assert quick_check(shared / "data" / place).seconds < 10
