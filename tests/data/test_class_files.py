"""Files that name classes: one reading for ``--classes``, the folder kind and the doctor."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from featherseg.core.errors import ConfigError, DataError, MissingExtraError
from featherseg.data.class_files import read_class_file
from featherseg.doctor.meaning import parse_classes

ROAD = ("road", "sky", "traffic light")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.txt", "road\nsky\n\n  traffic light \n"),
        ("c.TXT", "\ufeffroad\r\nsky\r\ntraffic light"),
        ("c.json", '["road", "sky", "traffic light"]'),
        ("c.json", '{"names": ["road", "sky", "traffic light"]}'),
        ("c.toml", 'names = ["road", "sky", "traffic light"]'),
        ("c.yaml", "names: [road, sky, traffic light]"),
        ("c.yml", "path: ../data\ntrain: images\nnc: 3\nnames:\n  0: road\n  1: sky\n  2: traffic light\n"),
        ("c.csv", "name\nroad\nsky\ntraffic light\n"),
        ("c.csv", "Pixel Value, Class\n0, road\n1, sky\n2, traffic light\n"),
        ("c.csv", "name,r,g,b\nroad,1,2,3\nsky,4,5,6\n\ntraffic light,7,8,9\n"),
    ],
)
def test_names(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_class_file(tmp_path / name)
    assert found.classes.names == ROAD
    assert found.ids == {0: 0, 1: 1, 2: 2, 255: 255}
    assert found.states_colors == ("r,g,b" in text)
    assert parse_classes(str(tmp_path / name)).classes.names == ROAD


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", 'names = ["road", "sky"]\nids = [1, 2]\nignore_index = 0'),
        ("c.yaml", "names: {1: road, 2: sky}\nignore_index: 0"),
        ("c.json", '{"names": ["road", "sky"], "ids": [1, 2], "ignore_index": 0}'),
    ],
)
def test_an_ignored_value_that_no_class_set_could_ignore(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    found = read_class_file(tmp_path / name)
    assert found.states_ids
    assert found.classes.ignore_index == 255
    assert found.ids == {0: 255, 255: 255, 1: 0, 2: 1}


def test_ignored_values_beyond_a_byte(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('names = ["urban", "water"]\nids = [111, 511]\nignore_index = 999')
    assert read_class_file(tmp_path / "c.toml").ids == {999: 255, 255: 255, 111: 0, 511: 1}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.xlsx", "road", r"ends in '\.xlsx'; classes are read from \.toml, \.json, \.yaml, \.yml, \.txt, \.csv"),
        ("c.txt", "", "needs at least one class"),
        ("c.txt", "road\nroad\n", "occurs twice"),
        ("c.csv", "", "it is empty"),
        ("c.csv", "0,road\n1,sky\n", "names no column of names"),
        ("c.csv", "id,name\nx,road\n", "'x' is no whole number"),
        ("c.csv", "name\n" + "x" * 140_000, "larger than"),
        ("c.yaml", "names: {a: road}", "no whole number"),
        ("c.yaml", "names: [*x]", "cannot be read"),
        ("c.toml", 'names = ["a", "b"]\nids = [1, 2]\nignore_index = 1', "ignores 1, the id of 'a'"),
        ("c.toml", 'names = ["a", "b"]\nids = [1, 2]\nignore_index = -1', "give the value that mask files hold"),
        ("c.toml", 'names = ["a", "b"]\nignore_index = 0', "is the id of class 'a'"),
    ],
)
def test_refused(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words) as info:
        read_class_file(tmp_path / name)
    assert "\n" not in str(info.value)


def test_a_path_is_never_taken_for_the_only_class(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("road\nsky\n")
    for words in (tmp_path / "names", "names.doc", "some/where/names"):
        with pytest.raises(ConfigError, match="give a file ending in"):
            parse_classes(str(words))
    assert parse_classes("road").classes.names == ("road",)


def test_yaml_is_one_sentence_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text("names: [road]")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"featherseg\[labels\]"):
        read_class_file(tmp_path / "c.yaml")
