"""Folders that appear whole with their checksums, and give way only as they were written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from conftest import error_line
from featherseg.core.errors import ConfigError
from featherseg.core.whole_folders import SUMS, check_untouched, read_sums, whole_folder


@pytest.fixture
def written(tmp_path: Path) -> Path:
    with whole_folder(tmp_path / "out") as built:
        (built / "a.txt").write_text("a")
        (built / "deep" / "er").mkdir(parents=True)
        (built / "deep" / "er" / "b c.txt").write_text("b")
    return tmp_path / "out"


def test_checksums_are_of_all_files_below(written: Path) -> None:
    expected = {"a.txt": "a", "deep/er/b c.txt": "b"}
    assert read_sums(written) == {name: hashlib.sha256(text.encode()).hexdigest() for name, text in expected.items()}
    assert [path.name for path in written.parent.iterdir()] == ["out"]


def test_an_untouched_folder_may_go_with_litter_and_all(written: Path) -> None:
    (written / "deep" / "__pycache__").mkdir()
    (written / "deep" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (written / "a.txt").unlink()  # what is missing cannot be lost
    check_untouched(written)


def test_what_a_person_put_or_changed_is_found_wherever_it_lies(written: Path) -> None:
    (written / "deep" / "er" / "b c.txt").write_text("mine")
    assert "'deep/er/b c.txt', which was edited" in error_line(ConfigError, check_untouched, written)
    (written / "deep" / "notes.txt").write_text("mine")
    assert "'deep/notes.txt', which featherseg did not write" in error_line(ConfigError, check_untouched, written)
    (written / "deep" / "notes.txt").unlink()
    (written / "link").symlink_to(written / "deep")
    assert "'link'" in error_line(ConfigError, check_untouched, written)


def test_a_block_that_raises_leaves_what_was_there(written: Path) -> None:
    def fill() -> None:
        with whole_folder(written) as built:
            (built / "new.txt").write_text("x")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fill()
    assert (written / "a.txt").read_text() == "a"
    assert not (written / "new.txt").exists()
    assert [path.name for path in written.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("text", ["", "nonsense\n", "0123 one space\n"])
def test_damaged_checksums(written: Path, text: str) -> None:
    (written / SUMS).write_text(text)
    if text:
        with pytest.raises(ValueError, match="damaged"):
            read_sums(written)
    else:
        assert read_sums(written) == {}
