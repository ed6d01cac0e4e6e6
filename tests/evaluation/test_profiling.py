"""Where time goes: arithmetic against other counts, every layer found again among an engine's kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from conftest import Trained
from export_fixtures import Scenes
from featherseg.core.errors import ArtifactError, ConfigError
from featherseg.evaluation.profiling.costs import GraphCosts, _stems
from featherseg.evaluation.profiling.kernels import time_kernels
from featherseg.evaluation.profiling.layers import LayerTime, ProfileResult, profile
from featherseg.evaluation.profiling.peaks import Peaks, measure_peaks
from featherseg.models.base import SegmentationModel
from featherseg.models.checkpoint import load_checkpoint
from featherseg.models.facts import count_gmacs, count_parameters

SIZE = (64, 96)
IMAGES = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
STUB = Peaks(gmacs=50.0, gbytes=20.0, threads=1)


def int8(file: Path, folder: Path) -> Path:
    from featherseg.compress.qdq import quantize_onnx

    images = [Scenes(((96, 130),) * 4).read(i)[0] for i in range(4)]
    return quantize_onnx(file, folder / "int8.onnx", images)


class TestCosts:
    def test_as_torch_counts(self, trained: Trained) -> None:
        model = load_checkpoint(trained.run).model
        costs = GraphCosts(trained.file, SIZE)
        assert costs.macs == round(count_gmacs(model, SIZE) * 1e9)
        layers = {cost.layer: cost for cost in costs.costs.values()}
        assert "classifier" in layers
        assert layers["classifier"].params == sum(p.numel() for p in model.get_submodule("classifier").parameters())
        assert GraphCosts(trained.file, (128, 96)).macs == round(count_gmacs(model, (128, 96)) * 1e9)

    def test_int8_files_count_as_their_float_ones(
        self, exported: Path, model: SegmentationModel, tmp_path: Path
    ) -> None:
        whole, small = GraphCosts(exported, SIZE), GraphCosts(int8(exported, tmp_path), SIZE)
        assert [c.layer for c in small.costs.values()] == [c.layer for c in whole.costs.values()]
        for name, cost in small.costs.items():
            assert cost.params >= whole.costs[name].params
            assert cost.macs == whole.costs[name].macs
        norms = sum(m.weight.numel() for m in model.modules() if type(m).__name__ == "BatchNorm2d")
        assert sum(c.params for c in whole.costs.values()) == count_parameters(model)[0] - norms, "folded into biases"

    def test_other_operators_by_hand(self, tmp_path: Path) -> None:
        def constant(name: str, *shape: int) -> TensorProto:
            return onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)

        nodes = [
            helper.make_node("Transpose", ["image"], ["chw"], "t", perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["chw"], ["x"], "c", to=TensorProto.FLOAT),
            helper.make_node("Conv", ["x", "w"], ["y"], "conv", strides=[2, 2], pads=[1, 1, 1, 1], group=3),
            helper.make_node("ConvTranspose", ["y", "v", "b"], ["z"], "up", strides=[2, 2]),
            helper.make_node("MatMul", ["z", "m"], ["p"], "product"),
            helper.make_node("Flatten", ["p"], ["f"], "flat", axis=0),
            helper.make_node("Gemm", ["g", "g"], ["h"], "gram", transA=1),
        ]
        constants = [constant("w", 6, 1, 3, 3), constant("v", 6, 5, 2, 2), constant("b", 5), constant("m", 8, 7)]
        constants.append(constant("g", 4, 9))
        shape = [1, "height", "width", 3]
        inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)]
        outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("f", "h")]
        graph = helper.make_graph(nodes, "all", inputs, outputs, constants)
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "a.onnx"
        )
        costs = GraphCosts(tmp_path / "a.onnx", (6, 8)).costs
        assert {name: (c.macs, c.params) for name, c in costs.items()} == {
            "conv": (6 * 3 * 4 * 9, 54),  # 6 maps of 3x4, nine products each
            "up": (3 * 4 * 6 * 5 * 4, 125),  # each of 3x4x6 values goes to 5 maps of 2x2
            "product": (5 * 6 * 7 * 8, 56),
            "gram": (9 * 9 * 4, 36),
        }

    def test_no_graph(self, tmp_path: Path) -> None:
        (tmp_path / "a.onnx").write_bytes(b"no graph")
        with pytest.raises(ArtifactError, match="shapes cannot be found") as caught:
            GraphCosts(tmp_path / "a.onnx", SIZE)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("kernel", "node"),
        [
            ("node_Conv_1_token_22", "node_Conv_1"),
            ("relu_1_nchwc", "relu_1"),
            ("node_Conv_1/WithoutBiases", "node_Conv_1"),
            ("a_token_b", "a_token_b"),
        ],
    )
    def test_endings_that_engines_give(self, kernel: str, node: str) -> None:
        assert _stems(kernel)[-1] == node
        assert _stems(kernel)[0] == kernel


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_every_layer_is_among_the_kernels(exported: Path, tmp_path: Path, engine: str, precision: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="needs the extra openvino")
    file = int8(exported, tmp_path) if precision == "int8" else exported
    costs = GraphCosts(file, SIZE)
    timed = time_kernels(file, IMAGES, engine=engine, threads=1, precision="fp32", runs=2, warmup=1)
    found = {costs.find(kernel.name)[0] for kernel in timed.kernels if costs.find(kernel.name)[1]}
    assert found == {cost.layer for cost in costs.costs.values()}
    assert all(kernel.ms >= 0 and kernel.bytes >= 0 for kernel in timed.kernels)
    assert max(kernel.bytes for kernel in timed.kernels) >= IMAGES.nbytes
    assert timed.engine.startswith(engine)


class TestProfile:
    def test_totals_are_the_networks(self, trained: Trained) -> None:
        model = load_checkpoint(trained.run).model
        result = profile(trained.file, SIZE, threads=1, runs=3, warmup=1, peaks=lambda threads: STUB)
        assert result.total.macs == round(count_gmacs(model, SIZE) * 1e9)
        assert result.total.ms == pytest.approx(sum(layer.ms for layer in result.layers))
        times = [layer.ms for layer in result.layers]
        assert times == sorted(times, reverse=True)
        assert len({layer.layer for layer in result.layers}) == len(result.layers)
        data = result.to_dict()
        assert sum(row["share"] for row in data["layers"]) == pytest.approx(1)
        assert data["peaks"] == {"gmacs": 50.0, "gbytes": 20.0, "threads": 1}
        assert data["total"]["macs"] == result.total.macs
        assert data["engine"].startswith("onnxruntime")

    def test_shares_of_the_peaks(self) -> None:
        layer = LayerTime("a", "Conv", ms=2.0, macs=25_000_000, params=1, bytes=8_000_000)
        assert layer.reach(STUB) == pytest.approx((0.25, 0.2))
        result = ProfileResult("a.onnx", SIZE, (layer, layer), 5.0, STUB, "mine", "here")
        assert result.total == LayerTime("all", "", 4.0, 50_000_000, 2, 16_000_000)

    def test_mistakes(self, trained: Trained, tmp_path: Path) -> None:
        def refused(path: Path, size: tuple[int, int] = SIZE, **options: object) -> str:
            with pytest.raises((ArtifactError, ConfigError)) as caught:
                profile(path, size, peaks=lambda threads: STUB, **options)  # type: ignore[arg-type]
            assert "\n" not in str(caught.value)
            return str(caught.value)

        assert "profiles are of .onnx files" in refused(trained.run)
        assert "no such file" in refused(tmp_path / "none.onnx")
        assert "runs is 0" in refused(trained.file, runs=0)
        assert "threads is 0" in refused(trained.file, threads=0)
        assert "size is 32x96" in refused(trained.file, (32, 96))
        assert "engine is 'openvin'" in refused(trained.file, engine="openvin")
        assert "ONNX Runtime computes in fp32" in refused(trained.file, precision="bf16")

    def test_peaks_are_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        peaks = measure_peaks(1)
        assert peaks.threads == 1
        # From the slowest board to ten times the fastest core of today: in the right unit.
        assert 0.1 < peaks.gmacs < 2000
        assert 0.1 < peaks.gbytes < 2000
