"""What a command writes replaces what featherseg wrote, and never what a person made or changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featherseg.core.errors import ConfigError
from featherseg.core.files import write_atomically
from featherseg.core.images import write_mask
from featherseg.core.outputs import RECORD_NAME, Outputs, writing
from featherseg.core.types import ClassSet


def put(path: Path, text: str) -> None:
    with writing(path):
        path.write_text(text)


def test_own_files_are_replaced_by_another_call(tmp_path: Path) -> None:
    for text in ("first", "second", "first"):
        put(tmp_path / "page.html", text)
        assert (tmp_path / "page.html").read_text() == text


def test_a_file_of_a_person_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.html exists and is not as featherseg wrote it"):
        put(tmp_path / "notes.html", "yours")
    assert (tmp_path / "notes.html").read_text() == "mine"


def test_an_own_file_that_was_edited_stays(tmp_path: Path) -> None:
    classes = ClassSet(("road", "sky"))
    mask = write_mask(tmp_path / "a.png", np.zeros((8, 8), np.uint8), classes, Outputs().write)
    corrected = np.ones((8, 8), np.uint8)
    write_mask(mask, corrected, classes)  # as a drawing program would, with our palette and all
    before = mask.read_bytes()
    with pytest.raises(ConfigError):
        write_mask(mask, np.zeros((8, 8), np.uint8), classes, Outputs().write)
    assert mask.read_bytes() == before


def test_all_are_asked_for_before_one_is_written(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("mine")
    (tmp_path / "c.csv").write_text("mine")
    with (
        pytest.raises(ConfigError, match="and 1 more"),
        writing(tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"),
    ):
        (tmp_path / "a.csv").write_text("x")
    assert not (tmp_path / "a.csv").exists()


def test_a_write_that_was_cut_short_leaves_the_older_file_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Outputs().write(path, lambda file: file.write(b"old"))

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="disk"):
            Outputs().write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"old"
    Outputs().write(path, lambda file: file.write(b"newer"))
    assert path.read_bytes() == b"newer"


@pytest.mark.parametrize("name", ["two  spaces.png", "line\nend.png", "back\\slash.png", "Müll.png", "half\udcff.png"])
def test_names_of_any_kind(name: str, tmp_path: Path) -> None:
    put(tmp_path / name, "first")
    put(tmp_path / name, "second")
    assert len((tmp_path / RECORD_NAME).read_text("ascii").split()) >= 4


def test_a_moved_folder_keeps_its_record(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    put(tmp_path / "old" / "a.txt", "first")
    (tmp_path / "old").rename(tmp_path / "new")
    put(tmp_path / "new" / "a.txt", "second")


def test_a_damaged_record_makes_files_a_persons(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", "first")
    (tmp_path / RECORD_NAME).write_bytes(b"\xff\x00 \\u12 no record\n")
    with pytest.raises(ConfigError):
        put(tmp_path / "a.txt", "second")


def test_a_line_that_a_full_disk_cut_costs_that_file_alone(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", "first")
    record = tmp_path / RECORD_NAME
    record.write_bytes(record.read_bytes()[:-20])
    put(tmp_path / "b.txt", "first")
    put(tmp_path / "b.txt", "second")
    with pytest.raises(ConfigError):
        put(tmp_path / "a.txt", "second")


def test_what_a_failing_block_left_is_ours(tmp_path: Path) -> None:
    def cut_short() -> None:
        with writing(tmp_path / "video.mp4"):
            (tmp_path / "video.mp4").write_text("half")
            raise RuntimeError("stop")

    for _ in range(2):
        with pytest.raises(RuntimeError):
            cut_short()


def test_links_to_nowhere_and_devices(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigError):
        Outputs().require([tmp_path / "link"])
    Outputs().require([Path("/dev/null"), tmp_path])


def test_a_plain_write_says_nothing_of_being_ours(tmp_path: Path) -> None:
    write_atomically(tmp_path / "mask.png", lambda file: file.write(b"a clean copy's"))
    with pytest.raises(ConfigError):
        Outputs().require([tmp_path / "mask.png"])
