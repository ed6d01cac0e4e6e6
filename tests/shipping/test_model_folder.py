"""The model folder: what it holds, checkable with sha256sum, or one line on why there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featherseg.core.errors import ArtifactError, ConfigError, FeathersegError, VerificationError
from featherseg.core.images import read_ids, read_image
from featherseg.core.plain_png import plain_png
from featherseg.core.types import ClassSet
from featherseg.data.readers.synthetic import render_street
from featherseg.evaluation.opening import STREET
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.fitting import resized
from featherseg.runtime.segmenter import Segmenter
from featherseg.shipping.report.page import read_report
from model_folders import CONTENT, SIZE, digest, names, shipped_street, street_report, write_street


def test_the_folder_holds_what_it_should_and_nothing_else(dist: Path) -> None:
    assert names(dist) == CONTENT
    assert names(dist.parent) == {"dist"}
    assert (dist / "street.onnx").read_bytes() == STREET.read_bytes()
    assert read_report(dist).name == "streets"
    labels = json.loads((dist / "labels.json").read_text())
    assert labels.pop("model") == "street.onnx"
    assert ClassSet.from_dict(labels) == read_artifact(STREET).classes
    assert dist.stat().st_mode & 0o777 == 0o777 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_sums_are_those_of_all_files_and_sha256sum_reads_them(dist_copy: Path) -> None:
    lines = [line.split("  ") for line in (dist_copy / "SHA256SUMS").read_text().splitlines()]
    assert {name: sum_ for sum_, name in lines} == {name: digest(dist_copy / name) for name in CONTENT - {"SHA256SUMS"}}
    if shutil.which("sha256sum") is None:
        pytest.skip("needs the program sha256sum")
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=dist_copy, capture_output=True, check=False).returncode == 0
    (dist_copy / "labels.json").write_text("{}")
    assert subprocess.run(command, cwd=dist_copy, capture_output=True, check=False).returncode == 1


def test_golden_mask_is_the_deployed_paths(dist: Path) -> None:
    image = read_image(dist / "golden.png")
    shown = render_street(7, SIZE)[0]
    np.testing.assert_array_equal(image, resized(shown, read_artifact(STREET).input_spec.size(SIZE)))
    ids = read_ids(dist / "golden_mask.png")
    np.testing.assert_array_equal(ids, Segmenter(STREET, threads=1).segment(image))
    assert len(np.unique(ids)) > 3
    with Image.open(dist / "golden_mask.png") as picture:
        colors = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(colors, read_artifact(STREET).classes.palette()[ids])


def test_pngs_are_as_png_says() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 3), (64, 65, 3), (300, 200, 3)):
        pixels = rng.integers(0, 256, shape, np.uint8)
        np.testing.assert_array_equal(open_png(plain_png(pixels)), pixels)
    ids = rng.integers(0, 3, (70, 64)).astype(np.uint8)
    np.testing.assert_array_equal(open_png(plain_png(ids, ClassSet(("a", "b", "c")))), ids)


def open_png(body: bytes) -> np.ndarray:
    with Image.open(BytesIO(body)) as picture:
        return np.array(picture)


def test_failed_files_are_in_the_report_and_not_in_the_folder(tmp_path: Path) -> None:
    failed = shipped_street(name="int8.onnx", passed=False, failures=("mIoU fell",))
    write_street(tmp_path / "dist", report=street_report(shipped_street(), failed))
    assert names(tmp_path / "dist") == CONTENT
    assert "failed, not in this folder: mIoU fell" in (tmp_path / "dist" / "README.md").read_text()


def copied(folder: Path, name: str) -> Path:
    return Path(shutil.copy(STREET, folder / name))


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (
            lambda _: {"files": [Path("gone.onnx")], "report": street_report(shipped_street(name="gone.onnx"))},
            ArtifactError,
            "exist",
        ),
        (
            lambda _: {"report": street_report(shipped_street(), shipped_street(name="b.onnx"))},
            ArtifactError,
            "b.onnx has passed, but",
        ),
        (lambda _: {"report": street_report(shipped_street(sha256="0" * 64))}, ArtifactError, "its SHA-256 differs"),
        (
            lambda _: {"report": street_report(shipped_street(passed=False, failures=("mIoU fell",)))},
            VerificationError,
            "street.onnx failed: mIoU fell",
        ),
        (lambda tmp: {"files": [STREET, copied(tmp, "a b.onnx")]}, ConfigError, "'a b.onnx' would need quoting"),
        (lambda tmp: {"files": [STREET, copied(tmp, "run.py")]}, ConfigError, "'run.py' has a name"),
        (lambda tmp: {"files": [STREET, copied(tmp, "street.onnx")]}, ConfigError, "2 files have 1 different names"),
        (
            lambda _: {"main": "model.onnx"},
            ConfigError,
            "main file is 'model.onnx'; give one of the ONNX files: street",
        ),
        (
            lambda tmp: {"files": [copied(tmp, "a.xml")], "report": street_report(shipped_street(name="a.xml"))},
            ConfigError,
            "there is none",
        ),
        (lambda _: {"golden": np.zeros((64, 64), np.uint8)}, ConfigError, "golden image is uint8"),
        (lambda _: {"golden": np.zeros((63, 99, 3), np.uint8)}, ConfigError, "at least 64"),
        (lambda _: {"terms": " "}, ConfigError, "data or terms is empty"),
        (
            lambda _: {"report": street_report(shipped_street(iou={}), classes=ClassSet(("a",)))},
            ConfigError,
            "1 classes that are not the file's",
        ),
        (
            lambda _: {
                "artifact": replace(read_artifact(STREET), classes=ClassSet(("a",))),
                "report": street_report(shipped_street(iou={}), classes=ClassSet(("a",))),
            },
            ArtifactError,
            "other classes",
        ),
    ],
)
def test_folders_that_cannot_be_are_refused_in_one_line(
    tmp_path: Path, prepare: Callable[[Path], dict[str, Any]], error: type[FeathersegError], message: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    with pytest.raises(error) as caught:
        write_street(tmp_path / "out" / "dist", **prepare(tmp_path / "in"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path / "out") == set()
