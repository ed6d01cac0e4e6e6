"""Finding pictures by the names that labels give them, and the splits that names speak of."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherseg.core.errors import DataError
from featherseg.data.annotations import Sample
from featherseg.data.listing import Pictures, name_parts, settle_splits, split_of, split_word, walk
from foreign_labels import picture


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_train2017", "train"),
        ("valid", "val"),
        ("Validation-set", "val"),
        ("test", "test"),
        ("_annotations.coco", None),
        ("trainyard", None),
        ("retrained", None),
        ("", None),
    ],
)
def test_words_of_splits(name: str, split: str | None) -> None:
    assert split_word(name) == split


def test_a_files_own_name_counts_before_its_folders() -> None:
    root = Path("data")
    assert split_of(root / "train" / "annotations" / "a.json", root) == "train"
    assert split_of(root / "train" / "val.json", root) == "val"
    assert split_of(root / "a.json", root) is None


def test_names_of_other_machines() -> None:
    assert name_parts("C:\\work\\day1\\a.jpg") == ["work", "day1", "a.jpg"]
    assert name_parts("../../etc//./passwd") == ["etc", "passwd"]
    assert name_parts("/") == name_parts("") == name_parts("..") == []


def test_as_much_of_the_end_as_agrees(tmp_path: Path) -> None:
    for name in ("images/day1/a.jpg", "images/day2/a.jpg", "images/b.jpg", "train/c.jpg", "val/c.jpg"):
        picture(tmp_path / name)
    pictures = Pictures(tmp_path)
    assert pictures.count == 5
    assert pictures.find("/home/eva/day2/a.jpg") == tmp_path / "images/day2/a.jpg"
    assert pictures.find("elsewhere/b.jpg") == tmp_path / "images/b.jpg"
    assert pictures.find("c.jpg", ("val",)) == tmp_path / "val/c.jpg"
    assert pictures.find("d.jpg") is None
    assert pictures.find("..") is None
    with pytest.raises(DataError, match=r"a\.jpg may be images/day1/a\.jpg and images/day2/a\.jpg"):
        pictures.find("a.jpg")


def test_links_are_followed_once(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.jpg")
    root = tmp_path / "data"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    (root / "itself").symlink_to(root / "itself")
    assert [path for _, path in walk(root)] == ["itself", "images/a.jpg"]


class _Nothing:
    file = Path("labels.json")


NOTHING = _Nothing()


def samples(count: int, start: int = 0) -> list[Sample]:
    return [Sample(Path(f"{i}.jpg"), NOTHING) for i in range(start, start + count)]  # type: ignore[arg-type]


def test_splits_are_drawn_where_none_is_named() -> None:
    splits, notes = settle_splits({None: samples(10)}, 0.2, 0)
    assert {name: len(part) for name, part in splits.items()} == {"train": 8, "val": 2}
    assert notes == ("the labels name no validation split: 2 of 10 images were drawn for it",)
    assert settle_splits({None: samples(10)}, 0.2, 0)[0] == splits
    assert settle_splits({"train": samples(8), "test": samples(2, 8)}, 0.2, 0)[1] == ()
    assert list(settle_splits({"val": samples(2), None: samples(8, 2)}, 0.2, 0)[0]) == ["train", "val"]
    named = {"train": samples(8), "val": samples(2, 8), None: samples(3, 10)}
    assert list(settle_splits(named, 0.2, 0)[0]) == ["train", "val", "other"]
