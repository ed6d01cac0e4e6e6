"""OpenVINO's files: what they compute, what they say of themselves, and that both parts appear or neither."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export_fixtures import images_of
from featherseg.compress.weights_int8 import store_int8
from featherseg.core import staging
from featherseg.core.errors import ArtifactError, ConfigError, MissingExtraError
from featherseg.core.staging import staged
from featherseg.core.types import ClassSet
from featherseg.exporting.fixed import fix_size
from featherseg.exporting.onnx import write_artifact
from featherseg.exporting.openvino import export_openvino, write_openvino_artifact
from featherseg.runtime.artifact import Artifact, read_artifact
from featherseg.runtime.sessions.base import open_session

openvino = pytest.importorskip("openvino", reason="needs the extra openvino")


@pytest.fixture
def source(exported: Path, artifact: Artifact, tmp_path: Path) -> Path:
    """An exported file with figures of a verification and names that XML has to escape."""
    path = tmp_path / "source" / "net.onnx"
    path.parent.mkdir()
    path.write_bytes(exported.read_bytes())
    classes = ClassSet(("<&\"'>", "Straße", "車\n", "😀"), artifact.classes.colors)
    write_artifact(path, replace(artifact, classes=classes, verification={"agreement": 1.0}))
    return path


def run(path: Path, size: tuple[int, int] = (77, 133), backend: str = "auto") -> np.ndarray:
    return open_session(path, backend, threads=1).run(images_of(*size, batch=2))


def test_file_computes_what_the_onnx_file_does(source: Path, tmp_path: Path) -> None:
    path = export_openvino(source, tmp_path / "new" / "net.xml")
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.bin", "net.xml"]
    for size in ((64, 64), (77, 133)):
        expected = run(source, size)
        np.testing.assert_allclose(run(path, size), expected, atol=2e-5 * np.abs(expected).max())


def test_what_it_says_of_itself(source: Path, tmp_path: Path) -> None:
    path = export_openvino(source, tmp_path / "net.xml")
    expected = replace(read_artifact(source), verification={})
    assert read_artifact(path) == expected
    model = openvino.Core().read_model(str(path))
    assert model.get_rt_info(["featherseg"]).astype(str) == expected.to_metadata()["featherseg"]
    assert path.read_text().count("Stra") == 1, "the ONNX file's metadata are in it too"
    stamped = replace(expected, verification={"agreement": 0.25})
    weights = path.with_suffix(".bin").read_bytes()
    layers = ElementTree.tostring(ElementTree.parse(path).find("layers"))
    write_openvino_artifact(path, stamped)
    assert read_artifact(path) == stamped
    assert path.with_suffix(".bin").read_bytes() == weights
    assert ElementTree.tostring(ElementTree.parse(path).find("layers")) == layers
    write_openvino_artifact(path, expected)
    assert read_artifact(path) == expected
    run(path)


def test_half_precision_stores_half(source: Path, tmp_path: Path) -> None:
    full = export_openvino(source, tmp_path / "full.xml")
    half = export_openvino(source, tmp_path / "half.xml", precision="fp16")
    sizes = [path.with_suffix(".bin").stat().st_size for path in (full, half)]
    assert 0.45 < sizes[1] / sizes[0] < 0.65
    expected, rough = run(source), run(half)
    assert 0 < np.abs(rough - expected).max() < 0.02 * np.abs(expected).max()


def quantize(source: Path, path: Path) -> Path:
    """Put a pair of QuantizeLinear and DequantizeLinear before the last convolution."""
    proto = onnx.load(str(source))
    head = next(node for node in reversed(proto.graph.node) if node.op_type == "Conv")
    place = list(proto.graph.node).index(head)
    for name, value in (("step", np.array(0.05, np.float32)), ("zero", np.array(0, np.uint8))):
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    pair = [
        onnx.helper.make_node("QuantizeLinear", [head.input[0], "step", "zero"], ["codes"]),
        onnx.helper.make_node("DequantizeLinear", ["codes", "step", "zero"], ["steps"]),
    ]
    head.input[0] = "steps"
    for i, node in enumerate(pair):
        proto.graph.node.insert(place + i, node)
    path.write_bytes(proto.SerializeToString())
    return path


def test_int8(source: Path, tmp_path: Path) -> None:
    quantized = quantize(source, tmp_path / "int8.onnx")
    with pytest.raises(ConfigError, match=r"has int8 operators.*give int8"):
        export_openvino(quantized, tmp_path / "a.xml")
    with pytest.raises(ConfigError, match=r"has no QuantizeLinear operators.*give fp32 or fp16"):
        export_openvino(source, tmp_path / "a.xml", precision="int8")
    expected = run(quantized)
    assert np.abs(expected - run(source)).max() > 1e-3
    path = export_openvino(quantized, tmp_path / "a.xml", precision="int8")
    for logits in (run(path), run(quantized, backend="openvino")):
        np.testing.assert_allclose(logits, expected, atol=0.02 * np.abs(expected).max())
    # With a free batch OpenVINO computes some int8 networks wrongly, for other programs that open the file too.
    shape = openvino.Core().read_model(str(path)).input("image").partial_shape
    assert [d.to_string() for d in shape] == ["1", "?", "?", "3"]


def test_weights_in_int8_and_fixed_sizes_stay(source: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    store_int8(source, small)
    path = export_openvino(small, tmp_path / "small.xml")
    expected = run(small)
    np.testing.assert_allclose(run(path), expected, atol=2e-5 * np.abs(expected).max())
    assert read_artifact(path).training["weights"] == "int8 per channel"
    fixed = export_openvino(fix_size(source, tmp_path / "fixed.onnx", (64, 96)), tmp_path / "fixed.xml")
    assert open_session(fixed).size == (64, 96)


@pytest.mark.parametrize(
    ("options", "word"), [({"path": "a.onnx"}, r"end in \.xml"), ({"precision": "f16"}, 'did you mean "fp16"')]
)
def test_wrong_arguments(source: Path, tmp_path: Path, options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        export_openvino(source, tmp_path / options.pop("path", "a.xml"), **options)


def test_what_cannot_be_written(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.onnx"
    proto = onnx.load(str(source))
    next(node for node in proto.graph.node if node.op_type == "Conv").op_type = "Convolve"
    broken.write_bytes(proto.SerializeToString())
    with pytest.raises(ArtifactError, match=r"broken\.onnx: OpenVINO refuses it") as caught:
        export_openvino(broken, tmp_path / "a.xml")
    assert "\n" not in str(caught.value)
    with pytest.raises(ArtifactError, match="no such file"):
        export_openvino(tmp_path / "none.onnx", tmp_path / "a.xml")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r'Exporting for OpenVINO needs: pip install "featherseg\[openvino'):
        export_openvino(source, tmp_path / "a.xml")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.onnx", "source"]


def write_pair(path: Path, content: bytes) -> None:
    with staged(path) as temporary:
        assert temporary.name == path.name
        assert temporary.parent.parent.parent == path.parent, "on another disk it could not be moved in one step"
        temporary.write_bytes(content)
        temporary.with_suffix(".bin").write_bytes(content)


def pair(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_both_files_or_neither(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.xml"

    def interrupted() -> None:
        with staged(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert pair(path.parent) == {}
    write_pair(path, b"one")
    assert pair(path.parent) == {"a.xml": b"one", "a.bin": b"one"}
    write_pair(path, b"two")
    assert pair(path.parent) == {"a.xml": b"two", "a.bin": b"two"}
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert pair(path.parent) == {"a.xml": b"two", "a.bin": b"two"}


@pytest.mark.parametrize(("before", "failing"), [(False, 1), (False, 2), (True, 1), (True, 2), (True, 3), (True, 4)])
def test_moves_that_fail_are_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool, failing: int
) -> None:
    path = tmp_path / "a.xml"
    if before:
        write_pair(path, b"one")
    known = pair(tmp_path)
    replace_file, calls = Path.replace, []

    def replace_once(self: Path, target: Path) -> Path:
        calls.append(target)
        # Whoever opens the .xml at this time finds both files of one export, or no .xml.
        if path.exists():
            assert path.read_bytes() == path.with_suffix(".bin").read_bytes()
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        return replace_file(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(staging.Path, "replace", replace_once)
        with pytest.raises(OSError, match="No space"):
            write_pair(path, b"two")
    assert len(calls) >= failing
    assert pair(tmp_path) == known
