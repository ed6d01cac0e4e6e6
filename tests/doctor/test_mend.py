"""What a clean copy holds, against the pictures and ids that the broken dataset was made from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zoo
from PIL import Image

from featherseg.cli.main import main
from featherseg.core.errors import ConfigError, DataError
from featherseg.core.recipes import load_config
from featherseg.data.datasets import SegmentationDataset, create_dataset
from featherseg.doctor import mend
from featherseg.doctor.examine import examine
from featherseg.doctor.mend import CleanCopy, make_clean_copy, require_new_folder


def mended(name: str, tmp_path: Path) -> dict[str, SegmentationDataset]:
    animal, root = zoo.ZOO[name], tmp_path / "data"
    root.mkdir()
    animal.base(root)
    animal.build(root)
    return opened_copy(make_clean_copy(examine(root), tmp_path / "out"))


def opened_copy(copy: CleanCopy) -> dict[str, SegmentationDataset]:
    data = load_config(copy.config).data
    return {split: create_dataset(data.name, data.root, split, **data.options) for split in copy.splits}


def samples(datasets: dict[str, SegmentationDataset]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {d.stem(i): d.read(i) for d in datasets.values() for i in range(len(d))}


def foreground(ids: np.ndarray) -> np.ndarray:
    return (ids > 0).astype(np.uint8)


def same(ids: np.ndarray) -> np.ndarray:
    return ids


def by_colour(ids: np.ndarray) -> np.ndarray:
    """Classes of colours are numbered in the order of the colours."""
    order = sorted(range(3), key=lambda i: zoo.COLORS[i])
    return np.argsort(order).astype(np.uint8)[ids]


@pytest.mark.parametrize(
    ("name", "meant", "share"),
    [
        ("ids_from_one", same, 1),
        ("ids_from_one_without_names", same, 1),
        ("ids_for_the_eye", same, 1),
        ("ids_in_three_channels", same, 1),
        ("sixteen_bit_ids", same, 1),
        ("float_ids", same, 1),
        ("colour_masks", by_colour, 1),
        ("ids_and_colours", same, 1),
        ("palette_of_its_own", same, 1),
        ("names_differ_in_suffix_and_one_altogether", same, 1),
        ("images_and_masks_side_by_side_and_one_gone", same, 1),
        ("folder_for_each_split_and_a_mask_is_gone", same, 1),
        ("image_turned_by_exif", same, 1),
        ("image_turned_and_mask_not", same, 1),
        ("foreground_255", foreground, 1),
        ("foreground_255_with_names", foreground, 1),
        ("black_and_white_rgb", foreground, 1),
        ("alpha_only", foreground, 1),
        ("smoothed_foreground", foreground, 0.97),
        ("jpeg_foregrounds", foreground, 0.97),
        ("jpeg_colours", same, 0.9),
        ("smoothed_colours", same, 0.9),
        ("mask_of_half_the_size", same, 0.9),
        ("foregrounds_of_one_bit_and_of_eight", foreground, 1),
    ],
)
def test_masks_hold_what_was_meant(
    name: str, meant: Callable[[np.ndarray], np.ndarray], share: float, tmp_path: Path
) -> None:
    found = samples(mended(name, tmp_path))
    if name != "ids_and_colours":  # whose one colour mask says nothing of ids: nobody knows what it means
        assert len(found) == zoo.TRAIN + zoo.VAL - name.endswith(("_gone", "_altogether"))
    for i in range(zoo.TRAIN + zoo.VAL):
        if zoo.stem(i) in found:
            ids = found[zoo.stem(i)][1]
            assert (ids == meant(zoo.picture(i)[1])).mean() >= share, zoo.stem(i)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("png_called_jpg", 0),
        ("animated_png", 0),
        ("sixteen_bit_colour", 0),
        ("image_turned_by_exif", 6),
        ("image_turned_and_mask_not", 6),
        ("see_through_image", 0),
        ("cmyk", 8),
    ],
)
def test_images_are_rgb_and_upright(name: str, tolerance: float, tmp_path: Path) -> None:
    image = samples(mended(name, tmp_path))["a_scene"][0]
    assert np.abs(image.astype(int) - zoo.picture(0)[0]).mean() <= tolerance
    with Image.open(next((tmp_path / "out" / "images" / "train").glob("a_scene.*"))) as file:
        assert (file.mode, file.format, file.getexif().get(0x0112, 1)) == ("RGB", "PNG", 1)


def test_what_is_unlabelled_becomes_ignored(tmp_path: Path) -> None:
    ids = samples(mended("unlabelled_is_0", tmp_path))["a_scene"][1]
    expected = zoo.picture(0)[1]
    expected[:3] = 255
    assert (ids == expected).all()


@pytest.mark.parametrize("name", ["a_class_without_a_name", "the_last_id_plus_one_by_mistake"])
def test_whether_0_is_unlabelled_is_asked(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is 0 unlabelled, or n a class without a name\?.*ids = \[1, …, n\]") as info:
        mended(name, tmp_path)
    assert "\n" not in str(info.value)


class TestNoLabelIsLost:
    def test_values_that_are_no_class_but_in_every_mask(self, tmp_path: Path) -> None:
        root = zoo.clean_voc(tmp_path / "data")
        masks = root / "VOCdevkit" / "VOC2012" / "SegmentationClass"
        for path in masks.iterdir():  # in the colours of a project of one's own, as labelling programs export them
            with Image.open(path) as file:
                ids = np.array(file)
            zoo.save(path, np.array([(0, 0, 0), (48, 112, 32), (176, 112, 32)], np.uint8)[np.maximum(ids, 15) % 3])
        with pytest.raises(
            DataError, match=r"labels would be lost: \d+\.\d % of the pixels hold values that are no cla"
        ):
            make_clean_copy(examine(root), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_class_that_goes_lost_on_the_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = zoo.clean_folder(tmp_path / "data")
        (tmp_path / "out").mkdir()
        examination = examine(root)
        real = mend.decode
        monkeypatch.setattr(mend, "decode", lambda *args: np.minimum(real(*args), 1))
        with pytest.raises(DataError, match=r"class 'road' would have|class 'car' would be gone"):
            make_clean_copy(examination, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_by_the_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        animal = zoo.ZOO["a_class_of_its_own_in_every_mask"]
        (tmp_path / "data").mkdir()
        animal.base(tmp_path / "data")
        animal.build(tmp_path / "data")
        with pytest.raises(SystemExit) as ended:
            main(["doctor", str(tmp_path / "data"), "--fix", str(tmp_path / "out"), "-q"])
        assert ended.value.code == 2
        assert not (tmp_path / "out").exists()

    def test_thin_classes_in_masks_that_are_made_smaller(self, tmp_path: Path) -> None:
        root = zoo.clean_folder(tmp_path / "data")
        for i in range(zoo.TRAIN + zoo.VAL):
            ids = np.kron(np.minimum(zoo.picture(i)[1], 1), np.ones((8, 8), np.uint8))
            ids[:, 3::128] = 2  # a wire of one pixel, an eighth of a pixel of the image
            zoo.save(zoo.mask(root, i), ids)
        copy = make_clean_copy(examine(root), tmp_path / "out")
        assert copy.kept == {"car": zoo.TRAIN + zoo.VAL}
        assert "thin classes kept in masks that were resized: car in 12" in copy.summary()
        for i, (_, ids) in enumerate(samples(opened_copy(copy)).values()):
            assert (ids == 2).mean() == pytest.approx(1 / 128, rel=0.1), i


def photos(root: Path, turns: dict[str, int], *, stored: bool, size: tuple[int, int] = zoo.SIZE) -> None:
    """Photos that EXIF turns, with masks as a tool makes them that looks at EXIF, or does not."""
    for i, (name, orientation) in enumerate(turns.items()):
        scene, ids = (Image.fromarray(part) for part in zoo.picture(i, size))
        back = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
        turn, exif = back[orientation], Image.Exif()
        exif[0x0112] = orientation
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True, exist_ok=True)
        lying = scene if turn is None else scene.transpose(turn)
        lying.save(root / "images" / f"{name}.jpg", exif=exif, quality=95)
        (ids if turn is None or not stored else ids.transpose(turn)).save(root / "masks" / f"{name}.png")
    zoo.write_classes(root)


TURNED = {"a": 6, "b": 3, "c": 1, "d": 8, "e": 3, "f": 6}


@pytest.mark.parametrize("stored", [False, True])
def test_masks_of_photos_that_stand_on_their_head(stored: bool, tmp_path: Path) -> None:
    photos(tmp_path / "data", TURNED, stored=stored)
    examination = examine(tmp_path / "data")
    assert {f.id: f.count for f in examination.findings if f.id.endswith("rotated")} == (
        {"image-rotated": 5, "mask-not-rotated": 5} if stored else {"image-rotated": 5}
    )
    found = samples(opened_copy(make_clean_copy(examination, tmp_path / "out")))
    for i, name in enumerate(TURNED):
        assert (found[name][1] == zoo.picture(i)[1]).all(), name


@pytest.mark.parametrize(("orientation", "size"), [(3, zoo.SIZE), (6, (64, 64))])
def test_where_nothing_tells_how_masks_lie_nothing_is_mended(
    orientation: int, size: tuple[int, int], tmp_path: Path
) -> None:
    root = tmp_path / "data"
    photos(root, dict.fromkeys("abcd", orientation), stored=True, size=size)
    examination = examine(root)
    assert {f.id: f.count for f in examination.findings}["orientation-unclear"] == 4
    copy = make_clean_copy(examination, tmp_path / "out")
    for path in (tmp_path / "out" / "images").rglob("*.jpg"):
        assert path.read_bytes() == (root / "images" / path.name).read_bytes()
    loaded = {ds.stem(i): ds.read(i)[1] for ds in [create_dataset("folder", root, "all")] for i in range(len(ds))}
    for name, (_, ids) in samples(opened_copy(copy)).items():
        assert (ids == loaded[name]).all()


def test_values_that_are_no_class_become_ignored(tmp_path: Path) -> None:
    ids = samples(mended("an_id_too_many", tmp_path))["a_scene"][1]
    expected = zoo.picture(0)[1]
    expected[10:20, 10:20] = 255
    assert (ids == expected).all()


def test_masks_are_palette_files_and_good_images_the_same_bytes(tmp_path: Path) -> None:
    mended("an_id_too_many", tmp_path)
    for i in range(zoo.TRAIN):
        copied = tmp_path / "out" / "images" / "train" / f"{zoo.stem(i)}.png"
        assert copied.read_bytes() == zoo.image(tmp_path / "data", i).read_bytes()
    with Image.open(tmp_path / "out" / "masks" / "train" / "b_scene.png") as file:
        assert file.mode == "P"
        assert tuple(file.getpalette()[:9]) == tuple(part for color in zoo.COLORS for part in color)


def test_leaked_images_stay_in_val_alone(tmp_path: Path) -> None:
    splits = mended("leaked_image", tmp_path)
    assert [splits["val"].stem(i) for i in range(3)] == ["j_scene", "k_scene", "l_scene"]
    assert "a_scene" not in [splits["train"].stem(i) for i in range(len(splits["train"]))]
    assert (tmp_path / "out" / "left_out.txt").read_text() == "images/train/a_scene.png\tduplicate-images\n"
    assert (tmp_path / "out" / "train.txt").read_text().split() == [zoo.stem(i) for i in range(1, zoo.TRAIN)]


def test_a_sample_in_two_lists_stays_in_val_alone(tmp_path: Path) -> None:
    splits = mended("voc_sample_in_two_splits", tmp_path)
    assert {split: len(d) for split, d in splits.items()} == {"train": 9, "val": 3}
    assert "j_scene" not in [splits["train"].stem(i) for i in range(9)]


def test_traversal_copies_nothing_from_outside(tmp_path: Path) -> None:
    assert "secret" not in samples(mended("voc_list_leads_outside", tmp_path))
    assert not [path for path in (tmp_path / "out").rglob("*") if "secret" in path.name or "passwd" in path.name]


def test_a_split_that_the_loader_draws_is_written_down(tmp_path: Path) -> None:
    root = zoo.clean_folder(tmp_path / "data")
    for part in ("images", "masks"):
        for path in sorted((root / part).glob("*/*")):
            path.rename(root / part / path.name)
        for split in ("train", "val"):
            (root / part / split).rmdir()
    examination = examine(root)
    assert examination.findings == ()
    drawn = {split: create_dataset("folder", root, split) for split in ("train", "val")}
    make_clean_copy(examination, tmp_path / "out")
    for split, dataset in drawn.items():
        copied = create_dataset("folder", tmp_path / "out", split)
        assert [copied.stem(i) for i in range(len(copied))] == sorted(dataset.stem(i) for i in range(len(dataset)))


def test_names_that_meet_on_some_disks_are_kept_apart(tmp_path: Path) -> None:
    root = zoo.clean_cityscapes(tmp_path / "data")
    for part in ("leftImg8bit", "gtFine"):
        shutil.copytree(root / part / "val" / "ulm", root / part / "train" / "bonn")
        for i, path in enumerate(sorted((root / part / "train" / "bonn").iterdir())):
            path.rename(path.with_name(path.name.replace(path.name[:7], zoo.stem(i).upper())))
    for i, path in enumerate(sorted((root / "leftImg8bit" / "train" / "bonn").iterdir())):
        zoo.save(path, zoo.picture(70 + i)[0])
    copy = make_clean_copy(examine(root), tmp_path / "out")
    assert copy.splits == {"train": 12, "val": 3}
    names = [path.stem.casefold() for path in (tmp_path / "out" / "images" / "train").iterdir()]
    assert len(set(names)) == 12


class TestRefused:
    @pytest.mark.parametrize(
        "place", ["data", "data/out", "data/images/../deeper/out", "link/out", "there", "file", "."]
    )
    def test_places(self, place: str, tmp_path: Path) -> None:
        root = zoo.clean_folder(tmp_path / "data")
        (tmp_path / "link").symlink_to(root, target_is_directory=True)
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "x").touch()
        (tmp_path / "file").touch()
        examination = examine(root)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ConfigError, match="--fix"):
            make_clean_copy(examination, tmp_path / place)
        assert sorted(tmp_path.rglob("*")) == before

    def test_an_empty_folder_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert require_new_folder(tmp_path / "empty", zoo.clean_folder(tmp_path / "data")) == tmp_path / "empty"

    def test_one_pair_is_no_dataset(self, tmp_path: Path) -> None:
        root = zoo.clean_folder(tmp_path / "data")
        for i in range(1, zoo.TRAIN + zoo.VAL):
            zoo.image(root, i).write_bytes(b"")
        with pytest.raises(DataError, match="1 pairs would be left of it") as info:
            make_clean_copy(examine(root), tmp_path / "out")
        assert "\n" not in str(info.value)
        assert not (tmp_path / "out").exists()

    def test_a_file_that_breaks_after_it_was_examined_is_left_out(self, tmp_path: Path) -> None:
        root = zoo.clean_folder(tmp_path / "data")
        examination = examine(root)
        zoo.cut(zoo.mask(root))
        copy = make_clean_copy(examination, tmp_path / "out")
        assert copy.left_out == (("images/train/a_scene.png", "mask-truncated"),)
        assert len(create_dataset("folder", tmp_path / "out", "train")) == 8
