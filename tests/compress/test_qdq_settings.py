"""What a user may choose of an int8 file: layers that stay fp32, seven bits, a calibration made before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from featherseg.compress.graph import FloatGraph
from featherseg.compress.plan import plan
from featherseg.compress.qdq import calibrate, quantize_onnx
from featherseg.core.errors import ConfigError
from featherseg.runtime.artifact import read_artifact
from int8_graphs import STREETS, arrays, logits, noise, operators, optimised


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("keep", [["stem"], ["body"], ["mix"], ["st*", "body"], ["*"]])
def test_kept_layers_stay_float(residual: Path, tmp_path: Path, keep: list[str], biased: bool) -> None:
    """ONNX Runtime itself would round a float convolution that lies between two integers, and worse than we do."""
    if not biased:
        proto = onnx.load(residual)
        for node in proto.graph.node:
            del node.input[2 : 2 + (node.op_type == "Conv")]
        onnx.save(proto, residual)
    path = quantize_onnx(residual, tmp_path / "int8.onnx", STREETS, keep=keep)
    kept = ["stem", "body", "mix"] if keep == ["*"] else [name.replace("st*", "stem") for name in keep]
    assert read_artifact(path).training["quantization"]["fp32_layers"] == kept
    run = optimised(path)
    assert operators(run)["QLinearConv"] == 3 - len(kept)
    integers = [values for values in arrays(run).values() if values.dtype == np.int8 and values.ndim == 4]
    assert len(integers) == 3 - len(kept)
    exact, rounded = logits(residual, STREETS[0]), logits(path, STREETS[0])
    if len(kept) == 3:
        np.testing.assert_allclose(rounded, exact, rtol=1e-4, atol=1e-4 * np.abs(exact).max())
    assert noise(rounded, exact) < 0.01


def test_keep_names_what_there_is(residual: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'stam'.*did you mean \"stem\"") as caught:
        quantize_onnx(residual, tmp_path / "int8.onnx", STREETS, keep=["stam"])
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="'head'"):
        quantize_onnx(residual, tmp_path / "int8.onnx", STREETS, keep=["head"])


def test_seven_bits_for_old_processors(residual: Path, tmp_path: Path) -> None:
    stored = arrays(quantize_onnx(residual, tmp_path / "int8.onnx", STREETS, reduce_range=True))
    codes = stored["model.body.weight_q"]
    assert np.abs(codes).max() == 63
    restored = codes * stored["model.body.weight_scale"][:, None, None, None]
    half = stored["model.body.weight_scale"].max() / 2 * 1.001
    np.testing.assert_allclose(restored, arrays(residual)["model.body.weight"], atol=half)


def test_one_calibration_serves_many_files(residual: Path, tmp_path: Path) -> None:
    table = calibrate(plan(FloatGraph(residual), "onnxruntime"), STREETS)
    for keep in ((), ("body",), ("stem", "mix")):
        ours = quantize_onnx(residual, tmp_path / "a.onnx", table, keep=keep)
        again = quantize_onnx(residual, tmp_path / "b.onnx", STREETS, keep=keep)
        assert ours.read_bytes() == again.read_bytes()
