"""The model folder takes the place of what was there: as a whole or not at all, and only of one of ours."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featherseg.core.errors import ConfigError
from featherseg.evaluation.opening import STREET
from model_folders import CONTENT, names, run_program, shipped_street, street_report, write_street


def test_a_folder_of_ours_is_replaced_as_a_whole(dist_copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    shutil.copy(STREET, other)
    (dist_copy / "__pycache__").mkdir()
    write_street(dist_copy, [other], street_report(shipped_street(other)))
    assert names(dist_copy) == CONTENT - {"street.onnx"} | {"other.onnx"}
    assert names(tmp_path) == {"dist", "other.onnx"}
    assert run_program(dist_copy).returncode == 0


def test_an_empty_folder_is_filled_and_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_street(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == CONTENT


def spoil_report(folder: Path) -> None:
    (folder / "report.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "thesis.txt").write_text("mine"),
            "holds 'thesis.txt', which featherseg did not write",
        ),
        (lambda folder: (folder / "report.json").unlink(), "no whole model folder"),
        (spoil_report, "no whole model folder"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "no whole model folder"),
        (lambda folder: (folder / "SHA256SUMS").write_text("x\n"), "no whole model folder"),
    ],
)
def test_what_is_not_ours_stays(dist_copy: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(dist_copy)
    before = {path.name: path.read_bytes() for path in dist_copy.iterdir()}
    with pytest.raises(ConfigError, match=message) as caught:
        write_street(dist_copy)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in dist_copy.iterdir()} == before
    assert names(dist_copy.parent) == {"dist"}


def test_foreign_folders_and_files_stay(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ConfigError, match="no whole model folder"):
        write_street(tmp_path / "photos")
    with pytest.raises(ConfigError, match="is a file"):
        write_street(tmp_path / "file")
    assert names(tmp_path) == {"photos", "file"}
    assert names(tmp_path / "photos") == {"a.jpg"}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    "broken", ["shipping.folder.write_report", "shipping.folder.plain_png", "core.whole_folders.swap"]
)
def test_a_failure_halfway_leaves_everything_as_it_was(
    dist_copy: Path, monkeypatch: pytest.MonkeyPatch, broken: str, there: bool
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"featherseg.{broken}", fail)
    folder = dist_copy if there else dist_copy.parent / "new"
    with pytest.raises(OSError, match="No space"):
        write_street(folder)
    assert names(dist_copy.parent) == {"dist"}
    assert names(dist_copy) == CONTENT


def test_the_old_folder_comes_back_where_the_new_one_cannot_be_renamed(
    dist_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="busy"):
        write_street(dist_copy)
    assert names(dist_copy.parent) == {"dist"}
    assert run_program(dist_copy).returncode == 0
