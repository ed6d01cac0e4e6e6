"""A bundle for another device, its program, and the file that this leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Tiny, error_line
from featherseg.core.errors import ConfigError
from featherseg.picking import bundle as bundles
from featherseg.picking.bundle import LIST, PROGRAM, write_bundle
from featherseg.picking.devices import read_device
from featherseg.picking.files import CandidateFiles
from featherseg.runtime.choose import picture
from featherseg.runtime.postprocess import upsample_argmax

SIZE = (64, 96)


@pytest.fixture
def bundle(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bundles, "CandidateFiles", lambda classes: CandidateFiles(classes, tmp_path / "cache"))
    return write_bundle(tmp_path / "pi", picture(SIZE), 3, networks=["tiny"], scales=(1.0, 0.5))


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the program where nothing but NumPy and ONNX Runtime is to be had."""
    hide = "import sys; sys.modules.update(dict.fromkeys(('featherseg', 'torch', 'cv2', 'PIL', 'openvino', 'numba')))"
    code = f"{hide}; sys.argv[:] = [{str(folder / PROGRAM)!r}, *sys.argv[1:]]; import runpy; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *words], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_program_needs_onnxruntime_and_numpy_alone(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "pi5.json"
    ended = run(bundle, "-o", str(out), "--name", "a board", "--runs", "6", "--threads", "1")
    assert ended.returncode == 0, ended.stderr
    device = read_device(out)
    assert (device.name, device.size, device.num_classes) == ("a board", SIZE, 3)
    found = {(str(c.net), str(c.way)): timing for c, timing in device.found.items()}
    assert set(found) == {
        (f"tiny at {scale}", f"{weights} onnxruntime") for scale in ("full size", "1/2") for weights in ("fp32", "int8")
    }
    for timing in found.values():
        assert set(timing.stages) == {"pre", "net", "post"}
        assert 0 < timing.p50 <= timing.p95
    assert any("openvino is not installed" in why for why in device.failures.values())
    assert {"onnxruntime", "numpy", "python"} <= set(device.facts["versions"])
    assert "slower" in device.facts["heat"]


def test_mistakes_of_whoever_runs_it(bundle: Path) -> None:
    for words, said in ((["--networks", "nosuch"], "'nosuch'"), (["--runs", "1"], "--runs")):
        ended = run(bundle, *words)
        assert ended.returncode == 2
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr


def program() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(bundles._SOURCE.read_text(encoding="utf-8"), PROGRAM, "exec"), names)
    return names


@pytest.mark.parametrize("size", [(64, 96), (61, 75), (8, 12), (5, 5)])
def test_its_masks_are_ours(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((5, 8, 12)).astype(np.float32)
    assert (program()["mask_of"](logits, size) == upsample_argmax(logits, size)).mean() > 0.999


def test_its_pictures_are_ours_but_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    frame = picture((60, 90))
    expected = cv2.resize(frame, (45, 40), interpolation=cv2.INTER_AREA)
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert np.abs(program()["resized"](frame, (40, 45)).astype(int) - expected).max() <= 1


def test_bundles_that_cannot_be_written(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "holiday.jpg").touch()
    frame = picture(SIZE)
    assert "not empty" in error_line(ConfigError, write_bundle, tmp_path / "full", frame, 3)
    assert "--classes is 0" in error_line(ConfigError, write_bundle, tmp_path / "pi", frame, 0)
    assert '"tiny"' in error_line(ConfigError, write_bundle, tmp_path / "pi", frame, 3, networks=["tiney"])
    assert not (tmp_path / "pi").exists()


def test_files_that_are_no_times(tmp_path: Path) -> None:
    path = tmp_path / "pi5.json"
    assert "cannot be read" in error_line(ConfigError, read_device, path)
    whole = {
        "format": "featherseg device timings",
        "size": [64, 96],
        "num_classes": 3,
        "notes": [],
        "machine": {"name": "a board"},
    }
    row = {"network": "jetnet", "options": {}, "scale": 1.0, "weights": "fp32", "backend": "onnxruntime"}
    row |= {"precision": None, "runs": 6, "drift": 0.0, "device": "x", "name": "jetnet", "failure": ""}
    ms = {"p50": 4.0, "p95": 5.0, "stages": {"net": 4.0}}
    for content, said in (
        ("no JSON", "is no JSON"),
        ("[]", "holds no device's times"),
        (json.dumps({"format": "other"}), "holds no device's times"),
        (json.dumps(whole | {"results": []}), "nothing ran there"),
        (json.dumps(whole), "is damaged"),
        (json.dumps(whole | {"results": [row | {"ms": ms | {"p50": -1.0}}]}), "is damaged"),
        (json.dumps(whole | {"results": [row | {"ms": ms, "weights": "fp64"}]}), "is damaged"),
    ):
        path.write_text(content)
        assert said in error_line(ConfigError, read_device, path)
    path.write_text(json.dumps(whole | {"results": [row | {"ms": ms}]}))
    assert [timing.p95 for timing in read_device(path).found.values()] == [5.0]


def test_what_lies_in_it(bundle: Path) -> None:
    listed = json.loads((bundle / LIST).read_text())
    assert {entry["flavour"] for entry in listed["files"]} == {"", "onnxruntime", "openvino"}
    assert all((bundle / entry["file"]).is_file() for entry in listed["files"])
    assert "pip install onnxruntime numpy" in (bundle / "README.txt").read_text()
