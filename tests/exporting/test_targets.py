"""Targets: each file runs in its session and computes what the network does, or is not written."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export_fixtures import CLASSES, QUICK, Scenes, images_of, torch_mask
from featherseg.compress.weights_int8 import store_int8
from featherseg.core.errors import ArtifactError, ConfigError, VerificationError
from featherseg.exporting import targets as module
from featherseg.exporting.fixed import fix_size, graph_size
from featherseg.exporting.onnx import export_onnx, write_artifact
from featherseg.exporting.targets import (
    TOLERANCES,
    TargetSource,
    export_target,
    export_target_verified,
    register_target,
    stamp_companion,
    targets,
)
from featherseg.exporting.verdict import Tolerance
from featherseg.exporting.verify import verify
from featherseg.models.base import SegmentationModel
from featherseg.models.checkpoint import Checkpoint
from featherseg.runtime.artifact import Artifact, read_artifact
from featherseg.runtime.containers import write_companion
from featherseg.runtime.sessions.base import Session, open_session, sessions

PACKAGES = {"openvino": "openvino", "onnx": "onnx", "torch": "torch"}
RUNNING = [("onnx", None), ("openvino", "fp32"), ("openvino", "fp16"), ("torch", None)]


@pytest.fixture
def checkpoint(model: SegmentationModel) -> Checkpoint:
    return Checkpoint(model, CLASSES, {"epochs": 3})


@pytest.fixture
def source(exported: Path, artifact: Artifact, tmp_path: Path) -> Path:
    path = tmp_path / "source.onnx"
    path.write_bytes(exported.read_bytes())
    write_artifact(path, replace(artifact, verification={"agreement": 1.0}))
    return path


def test_facts() -> None:
    assert targets.names() == ["onnx", "openvino", "tensorrt", "torch"]
    assert len({targets.get(name).suffix for name in targets}) == len(targets.names())
    for name in targets:
        target = targets.get(name)
        assert target.name == name
        assert target.suffix in sessions.get(target.backend).suffixes
        assert set(target.precisions) <= set(TOLERANCES)
        assert target.checked(None) == target.precisions[0]


@pytest.mark.parametrize(("name", "precision"), RUNNING)
def test_verified_export(
    name: str, precision: str | None, checkpoint: Checkpoint, source: Path, scenes: Scenes, tmp_path: Path
) -> None:
    pytest.importorskip(PACKAGES[name], reason=f"needs {PACKAGES[name]}")
    path = tmp_path / "out" / f"net{targets.get(name).suffix}"
    seen: list[tuple[int, int]] = []
    # The truth is the network's own mask here, so every pixel that rounding changes costs mIoU.
    tolerance = replace(TOLERANCES["fp16"], max_miou_drop=0.01) if precision == "fp16" else None
    result = export_target_verified(
        name,
        checkpoint,
        source,
        path,
        scenes,
        tolerance,
        precision=precision,
        progress=lambda *done: seen.append(done),
        **QUICK if name != "torch" else {"sizes": QUICK["sizes"]},
    )
    assert result.passed
    assert seen[-1] == (4, 4)
    assert result.session == open_session(path, **{} if name == "torch" else {"threads": 1}).device
    assert result.tolerance == (tolerance or Tolerance())
    stored = read_artifact(path)
    assert stored.verification == result.to_dict()
    assert result.calibration is not None
    assert stored.calibration == result.calibration.to_dict()
    unproven: dict[str, Any] = {"verification": {}, "calibration": {}}
    assert replace(stored, **unproven) == replace(read_artifact(source), **unproven)
    assert {p.stem for p in path.parent.iterdir()} == {"net"}
    again = verify(checkpoint.model, path, scenes, sizes=QUICK["sizes"])
    assert again.agreement == result.agreement


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_file_that_fails_is_not_written(
    name: str, checkpoint: Checkpoint, source: Path, scenes: Scenes, tmp_path: Path
) -> None:
    pytest.importorskip(PACKAGES[name], reason=f"needs {PACKAGES[name]}")
    net = copy.deepcopy(checkpoint.model)
    with torch.no_grad():
        net.head.bias.copy_(net.head.bias.roll(1))  # type: ignore[union-attr,operator]
    path = tmp_path / "out" / f"net{targets.get(name).suffix}"
    path.parent.mkdir()
    path.write_bytes(b"earlier")
    with pytest.raises(VerificationError, match="was not written: ") as caught:
        export_target_verified(name, replace(checkpoint, model=net), source, path, scenes, **QUICK)
    assert "\n" not in str(caught.value)
    assert [(p.name, p.read_bytes()) for p in path.parent.iterdir()] == [(path.name, b"earlier")]


def test_copy_of_the_onnx_file(source: Path, tmp_path: Path) -> None:
    path = export_target("onnx", None, source, tmp_path / "new" / "copy.onnx")
    assert path.read_bytes() == source.read_bytes()
    with pytest.raises(ArtifactError, match="no such file"):
        export_target("onnx", None, tmp_path / "none.onnx", tmp_path / "b.onnx")


def test_fixed_size(checkpoint: Checkpoint, source: Path, tmp_path: Path) -> None:
    path = export_target("onnx", checkpoint, source, tmp_path / "fixed.onnx", size=(77, 133))
    session = open_session(path, threads=1)
    assert session.size == (77, 133)
    images = images_of(77, 133, batch=2)
    expected = open_session(source, threads=1).run(images)
    np.testing.assert_allclose(session.run(images), expected, atol=2e-5 * np.abs(expected).max())
    assert read_artifact(path) == replace(read_artifact(source), verification={})
    proto = onnx.load(str(path))
    shapes = {port.name: port.type.tensor_type.shape.dim for port in (*proto.graph.input, *proto.graph.output)}
    assert [d.dim_value for d in shapes["image"]][1:] == [77, 133, 3]
    assert [d.dim_value for d in shapes["logits"]][1:] == [4, 10, 17]
    same_size = Scenes(sizes=((77, 133),) * 2, truth=lambda image: torch_mask(checkpoint.model, image))
    result = export_target_verified(
        "onnx", checkpoint, source, tmp_path / "b.onnx", same_size, size=(77, 133), sizes=((77, 133),), threads=1
    )
    assert result.passed
    assert fix_size(path, tmp_path / "c.onnx", (77, 133)).is_file()
    with pytest.raises(ArtifactError, match="is fixed to 77x133 already"):
        fix_size(path, tmp_path / "d.onnx", (96, 96))
    with pytest.raises(ConfigError, match="size is"):
        fix_size(source, tmp_path / "d.onnx", (32, 96))
    assert not (tmp_path / "d.onnx").exists()


def test_fixed_size_keeps_weights_in_int8(source: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    store_int8(source, small)
    path = fix_size(small, tmp_path / "fixed.onnx", (64, 96))

    def codes(file: Path) -> int:
        return sum(t.data_type == onnx.TensorProto.INT8 for t in onnx.load(str(file)).graph.initializer)

    assert codes(path) == codes(small) > 0


def test_mask_variant_in_plain_onnxruntime(model: SegmentationModel, artifact: Artifact, tmp_path: Path) -> None:
    """What a program in another language does: no featherseg, masks straight from the file."""
    mask = export_onnx(model, tmp_path / "mask.onnx", artifact, output="mask")
    for path in (mask, fix_size(mask, tmp_path / "fixed.onnx", (77, 133))):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        images = images_of(77, 133, batch=2)
        masks = session.run(None, {"image": images})[0]
        assert (masks.dtype, masks.shape) == (np.uint8, (2, 77, 133))
        assert session.get_modelmeta().custom_metadata_map.keys() == {"featherseg"}
        for image, found in zip(images, masks, strict=True):
            assert (found == torch_mask(model, image)).mean() > 0.999
    proto = onnx.load(str(tmp_path / "fixed.onnx"))
    assert graph_size(proto) == (77, 133)
    assert [d.dim_value for d in proto.graph.output[0].type.tensor_type.shape.dim][1:] == [77, 133]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("openvin", {}, "unknown target 'openvin'; did you mean \"openvino\""),
        ("onnx", {"precision": "fp16"}, "target 'onnx' has no precision 'fp16'"),
        ("openvino", {"precision": "half"}, "target 'openvino' has no precision 'half'"),
        ("openvino", {"size": (64, 64)}, "target 'openvino' has no option 'size'; it has none"),
        ("tensorrt", {"timing_cash": "a"}, "no option 'timing_cash'; did you mean \"timing_cache\""),
        ("torch", {"path": "a.pth"}, "torch files end in .pt2, not '.pth'"),
        ("torch", {}, "target 'torch' is written from the network itself"),
    ],
)
def test_wrong_arguments(source: Path, tmp_path: Path, name: str, options: dict[str, Any], words: str) -> None:
    suffix = targets.get(name).suffix if name in targets else ""
    with pytest.raises(ConfigError) as caught:
        export_target(name, None, source, tmp_path / options.pop("path", f"a{suffix}"), **options)
    assert words in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["source.onnx"]


def test_program_of_quantised_file_is_refused(checkpoint: Checkpoint, source: Path, tmp_path: Path) -> None:
    store_int8(source)
    with pytest.raises(ConfigError, match=r"holds int8 per channel weights.*give its fp32 file"):
        export_target("torch", checkpoint, source, tmp_path / "a.pt2")


def test_engine_through_its_target(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(module, "build_engine", lambda *paths, **options: seen.append((paths, options)))
    path = export_target("tensorrt", None, source, tmp_path / "a.engine", max_batch=4, timing_cache="times")
    ((paths, options),) = seen
    assert paths == (source, path)
    assert {key: value for key, value in options.items() if value is not None} == {
        "precision": "fp16",
        "max_batch": 4,
        "timing_cache": "times",
    }


def test_own_target_takes_one_function_and_one_session(
    checkpoint: Checkpoint, source: Path, scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "_entries", dict(targets._entries))
    sessions.names()  # fills the table, which is copied here
    monkeypatch.setattr(sessions, "_entries", dict(sessions._entries))

    @register_target("mine", suffix=".mine", precisions=("fp32",), backend="my engine", extra="train")
    def write(source: TargetSource, path: Path, precision: str, note: str = "") -> None:
        path.write_bytes(source.onnx_path.read_bytes())
        write_companion(path, read_artifact(source.onnx_path).to_metadata()["featherseg"], f"mine 1, {note}")

    @sessions.register("my engine")
    class MySession(Session):
        suffixes = (".mine",)
        name = "mine"
        device = "paper"

        def __init__(self, path: str | Path, threads: int = 1) -> None:
            self.artifact = read_artifact(path)
            options = onnxruntime.SessionOptions()
            self.inner = onnxruntime.InferenceSession(Path(path).read_bytes(), options)

        def run(self, images: np.ndarray) -> np.ndarray:
            return self.inner.run(["logits"], {"image": images})[0]

    path = tmp_path / "out" / "net.mine"
    result = export_target_verified("mine", checkpoint, source, path, scenes, note="by hand", **QUICK)
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.mine", "net.mine.json"]
    assert read_artifact(path).verification == result.to_dict()
    assert open_session(path).name == "mine"
    assert "by hand" in path.with_name("net.mine.json").read_text()
    path.with_name("net.mine.json").unlink()
    with pytest.raises(ArtifactError, match="is not beside it"):
        stamp_companion(path, read_artifact(source))
