"""Engines by the real TensorRT, which needs a GPU to build, or TensorRT-RTX, which does not. Neither is run here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from conftest import FIRST_NETWORKS
from featherseg.compress.calibration import calibration_images
from featherseg.compress.qdq import quantize_onnx
from featherseg.core.errors import ArtifactError, ConfigError
from featherseg.core.types import ClassSet
from featherseg.data.readers.synthetic import SyntheticStreet
from featherseg.exporting.onnx import export_onnx, write_artifact
from featherseg.exporting.tensorrt import build_engine
from featherseg.models.factory import create_model
from featherseg.models.session import describe
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.containers import read_companion

CLASSES = ClassSet(("a", "b", "c", "d"))
INSTALLED = [name for name in ("tensorrt", "tensorrt_rtx") if importlib.util.find_spec(name)]
SIZES: dict[str, Any] = {"opt_size": (64, 96), "max_size": (128, 128)}

pytestmark = [
    pytest.mark.skipif(not INSTALLED, reason="neither tensorrt nor tensorrt_rtx is installed (extra tensorrt)"),
    pytest.mark.skipif(
        INSTALLED[:1] == ["tensorrt"] and not torch.cuda.is_available(),
        reason="the full TensorRT builds no engines without a GPU",
    ),
]


@pytest.fixture(scope="module")
def jetnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("jetnet"), "jetnet")


def export(folder: Path, name: str) -> Path:
    torch.manual_seed(0)
    model = create_model(name, len(CLASSES)).eval()
    return export_onnx(model, folder / f"{name}.onnx", describe(model, CLASSES))


def test_precisions(jetnet: Path, tmp_path: Path) -> None:
    sizes = {}
    for precision in ("fp32", "fp16"):
        engine = build_engine(jetnet, tmp_path / f"{precision}.engine", precision=precision, **SIZES)
        sizes[precision] = engine.stat().st_size
        assert read_artifact(engine) == read_artifact(jetnet)
    weights = sum(4 * tensor.numel() for tensor in create_model("jetnet", len(CLASSES)).parameters())
    assert sizes["fp32"] - sizes["fp16"] > weights / 3, "float16 weights take half the space"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIRST_NETWORKS))
def test_all_networks(tmp_path: Path, name: str) -> None:
    source = export(tmp_path, name)
    streets = calibration_images(SyntheticStreet(count=4, size=(64, 96)), 4)
    int8 = quantize_onnx(source, tmp_path / "int8.onnx", streets, flavour="tensorrt")
    for file, precision in ((source, "fp32"), (source, "fp16"), (int8, "int8")):
        engine = build_engine(file, tmp_path / f"{precision}.engine", precision=precision, **SIZES)
        assert read_companion(engine)["built_with"].endswith(f", {precision}")


def test_unsupported_operator(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Det", ["float"], ["areas"], "det"),
        helper.make_node("Reshape", ["areas", "form"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4, "h", "w"])
    form = numpy_helper.from_array(np.array([1, 4, -1, 1], np.int64), "form")
    proto = helper.make_model(
        helper.make_graph(nodes, "net", [image], [logits], [form]), opset_imports=[helper.make_opsetid("", 20)]
    )
    helper.set_model_props(proto, describe(create_model("jetnet", 4), CLASSES).to_metadata())
    path = tmp_path / "det.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ArtifactError, match=r"node det \(Det: unsupported node"):
        build_engine(path, tmp_path / "det.engine", precision="fp32")
    assert [p.name for p in tmp_path.iterdir()] == ["det.onnx"]


def quantized(source: Path, path: Path, for_tensorrt: bool) -> Path:
    """Quantise by ONNX Runtime's own tool: as TensorRT wants it (symmetric, float biases), or by its defaults."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Noise(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.images = iter([rng.integers(0, 256, (1, 64, 96, 3), np.uint8) for _ in range(2)])

        def get_next(self) -> Any:
            image = next(self.images, None)
            return None if image is None else {"image": image}

    flavour: dict[str, Any] = {
        "activation_type": QuantType.QInt8,
        "per_channel": True,
        "extra_options": {
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
            "DedicatedQDQPair": True,
        },
    }
    quantize_static(
        source,
        path,
        Noise(),
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
        **flavour if for_tensorrt else {},
    )
    write_artifact(path, read_artifact(source))
    return path


@pytest.mark.filterwarnings("ignore")
def test_int8(jetnet: Path, tmp_path: Path) -> None:
    source = quantized(jetnet, tmp_path / "int8.onnx", for_tensorrt=True)
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(str(source)).graph.node)
    engine = build_engine(source, tmp_path / "int8.engine", precision="int8", **SIZES)
    assert read_companion(engine)["built_with"].endswith(", int8")
    with pytest.raises(ConfigError, match="give precision int8"):
        build_engine(source, tmp_path / "b.engine", precision="fp16")
    rejected = quantized(jetnet, tmp_path / "ort.onnx", for_tensorrt=False)
    with pytest.raises(ArtifactError, match="TensorRT refuses node"):
        build_engine(rejected, tmp_path / "c.engine", precision="int8", **SIZES)
