"""Files that cannot be quantised: one line on why, and no file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from featherseg.compress.qdq import quantize_onnx
from featherseg.compress.ranges import Histogram
from featherseg.compress.weights_int8 import store_int8
from featherseg.core.errors import ArtifactError, ConfigError, DataError, MissingExtraError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.exporting.onnx import write_artifact
from featherseg.runtime.artifact import Artifact
from int8_graphs import STREETS, Draw, conv, write_graph


def test_graphs_with_branches_are_refused(residual: Path, tmp_path: Path) -> None:
    proto = onnx.load(residual)
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    inner = helper.make_graph([helper.make_node("Identity", ["add"], ["o"])], "inner", [], [out])
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    proto.graph.node.append(helper.make_node("If", ["yes"], ["w"], then_branch=inner, else_branch=inner))
    onnx.save(proto, residual)
    with pytest.raises(ArtifactError, match="branches or loops"):
        quantize_onnx(residual, tmp_path / "int8.onnx", STREETS)


def test_what_cannot_be_quantised(residual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.onnx"
    noise = list(np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="random noise"):
        quantize_onnx(residual, target, noise)
    with pytest.raises(ConfigError, match='did you mean "tensorrt"'):
        quantize_onnx(residual, target, STREETS, flavour="tensort")
    with pytest.raises(ConfigError, match="method is 'kl'"):
        quantize_onnx(residual, target, STREETS, method="kl")
    with pytest.raises(ConfigError, match="fp32 file itself"):
        quantize_onnx(residual, residual, STREETS)
    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        quantize_onnx(residual, tmp_path / "out.xml", STREETS)
    with pytest.raises(ArtifactError, match="no such file"):
        quantize_onnx(tmp_path / "none.onnx", target, STREETS)
    quantised = quantize_onnx(residual, tmp_path / "int8.onnx", STREETS)
    with pytest.raises(ArtifactError, match="quantised or in 16 bits already"):
        quantize_onnx(quantised, target, STREETS)
    mask = tmp_path / "mask.onnx"
    mask.write_bytes(residual.read_bytes())
    write_artifact(mask, Artifact(ClassSet(("a",)), InputSpec(), 8, "small", 9, output="mask"))
    with pytest.raises(ArtifactError, match="gives a mask"):
        quantize_onnx(mask, target, STREETS)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"Quantising needs: pip install \"featherseg\[train\]\""):
        quantize_onnx(residual, target, STREETS)
    assert not target.exists()


def test_weight_only_int8_files_are_not_quantised_again(draw: Draw, tmp_path: Path) -> None:
    nodes = [conv("add", "stem", "s", bias=False), conv("s", "head", "logits", bias=False)]
    tensors = {"stem.weight": draw(64, 3, 3, 3), "head.weight": draw(3, 64, 1, 1)}
    source = write_graph(tmp_path / "float.onnx", nodes, tensors)
    store_int8(source, tmp_path / "small.onnx")
    with pytest.raises(ArtifactError, match="already"):
        quantize_onnx(tmp_path / "small.onnx", tmp_path / "out.onnx", STREETS)


def test_networks_without_layers_or_with_broken_weights(draw: Draw, tmp_path: Path) -> None:
    single = write_graph(
        tmp_path / "single.onnx", [conv("add", "head", "logits", bias=False)], {"head.weight": draw(3, 3, 1, 1)}
    )
    with pytest.raises(ArtifactError, match="has no Conv to quantise"):
        quantize_onnx(single, tmp_path / "out.onnx", STREETS)
    broken = draw(4, 3, 1, 1)
    broken[0] = np.nan
    nodes = [conv("add", "stem", "s", bias=False), conv("s", "head", "logits", bias=False)]
    source = write_graph(tmp_path / "b.onnx", nodes, {"stem.weight": broken, "head.weight": draw(3, 4, 1, 1)})
    with pytest.raises(ArtifactError, match="calibration image 1, tensor s: values are not finite"):
        quantize_onnx(source, tmp_path / "out.onnx", STREETS)
    table = dict.fromkeys(("add", "s"), Histogram())
    with pytest.raises(ArtifactError, match=r"weight model\.stem\.weight is not finite"):
        quantize_onnx(source, tmp_path / "out.onnx", table)
    assert not (tmp_path / "out.onnx").exists()
