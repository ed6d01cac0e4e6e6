"""The exported ONNX file: equal to its network, alone, whole or not there."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from torch import Tensor, nn

from export_fixtures import CLASSES, QUICK, FixedPlace, Scenes, TinyNet, images_of, torch_mask
from featherseg.core.errors import ArtifactError, ConfigError, VerificationError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.exporting import onnx as export_module
from featherseg.exporting.onnx import Deployed, atomic_path, export_onnx, write_artifact
from featherseg.exporting.verify import export_verified
from featherseg.models.base import SegmentationModel, resize_like
from featherseg.models.checkpoint import Checkpoint
from featherseg.models.session import check_artifact, describe
from featherseg.runtime.artifact import Artifact, read_artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.onnx import OnnxSession


@pytest.mark.parametrize(("batch", "size"), [(1, (64, 64)), (3, (64, 201)), (2, (131, 77)), (1, (256, 512))])
def test_file_equals_network_at_any_batch_and_size(
    model: SegmentationModel, exported: Path, batch: int, size: tuple[int, int]
) -> None:
    images = images_of(*size, batch=batch)
    normal = torch.from_numpy(np.stack([model.input_spec.normalize(image) for image in images]))
    with torch.no_grad():
        expected = model.outputs(normal)["out"].numpy()
    logits = OnnxSession(exported, threads=1).run(images)
    assert logits.shape == (batch, 4, -(-size[0] // 8), -(-size[1] // 8))
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.abs(expected).max())


class Pooled(SegmentationModel):
    """Averages of a map at stride 64, which are a single one in a small image."""

    stride = 64
    num_classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=64, padding=1)
        self.scales = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(2))

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image).relu()
        pools = [F.avg_pool2d(x, 9, 4, 4), F.avg_pool2d(x, 17, 8, 8)]
        return {"out": sum(resize_like(scale(y), x) for scale, y in zip(self.scales, pools, strict=True)), "x64": x}


def test_a_side_of_one_in_the_example_is_larger_in_other_images(tmp_path: Path) -> None:
    model = Pooled().eval()
    path = export_onnx(model, tmp_path / "a.onnx", describe(model, CLASSES))
    assert not onnx.load(str(path)).graph.value_info
    for size in ((64, 64), (65, 900), (600, 330)):
        images = images_of(*size, batch=1)
        with torch.no_grad():
            expected = model.outputs(torch.from_numpy(model.input_spec.normalize(images[0]))[None])["out"].numpy()
        np.testing.assert_allclose(OnnxSession(path, threads=1).run(images), expected, rtol=1e-4, atol=1e-5)


def test_file_stands_alone(exported: Path, artifact: Artifact) -> None:
    proto = onnx.load(str(exported), load_external_data=False)
    assert [p.name for p in exported.parent.iterdir()] == [exported.name]
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in proto.graph.initializer)
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    assert [opset.version for opset in proto.opset_import if opset.domain == ""] == [20]
    assert [(p.name, p.type.tensor_type.elem_type) for p in proto.graph.input] == [("image", onnx.TensorProto.UINT8)]
    assert [(p.name, p.type.tensor_type.elem_type) for p in proto.graph.output] == [("logits", onnx.TensorProto.FLOAT)]
    assert read_artifact(exported) == artifact
    content = exported.read_bytes()
    for private in (b".py", b"site-packages", str(Path.cwd()).encode(), b"stack_trace"):
        assert private not in content


def test_export_says_nothing_and_leaves_the_model(
    model: SegmentationModel, artifact: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    net = copy.deepcopy(model).train()
    net.stem.eval()
    modes = [module.training for module in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(net, tmp_path / "new" / "a.onnx", artifact)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert capfd.readouterr() == ("", "")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.onnx"]


def test_mask_output(model: SegmentationModel, artifact: Artifact, exported: Path, tmp_path: Path) -> None:
    import onnxruntime

    path = export_onnx(model, tmp_path / "mask.onnx", artifact, output="mask")
    assert read_artifact(path) == replace(artifact, output="mask")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for size in ((64, 96), (77, 133)):
        images = images_of(*size, batch=2)
        masks = session.run(["mask"], {"image": images})[0]
        assert (masks.dtype, masks.shape) == (np.uint8, (2, *size))
        for image, mask in zip(images, masks, strict=True):
            assert (mask == torch_mask(model, image)).mean() > 0.999
            assert (mask == Segmenter(exported, threads=1).segment(image)).mean() > 0.999
    with pytest.raises(ArtifactError, match="gives a mask"):
        Segmenter(path)


def test_deployed_normalises_as_the_input_spec_does() -> None:
    net = TinyNet()
    net.input_spec = InputSpec((0.1, 0.5, 0.9), (0.02, 0.3, 1.0))
    seen = []
    net.outputs = lambda image: seen.append(image) or {"out": image}  # type: ignore[method-assign,func-returns-value]
    image = images_of(64, 96)
    Deployed(net)(torch.from_numpy(image))
    np.testing.assert_allclose(seen[0][0].numpy(), net.input_spec.normalize(image[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"path": "a.pt"}, r"ends in \.onnx"),
        ({"output": "masks"}, "did you mean"),
        ({"example_size": (32, 256)}, "example_size"),
        ({"opset": 11}, "opset"),
    ],
)
def test_wrong_arguments(
    model: SegmentationModel, artifact: Artifact, tmp_path: Path, options: dict[str, Any], word: str
) -> None:
    path = tmp_path / options.pop("path", "a.onnx")
    with pytest.raises(ConfigError, match=word):
        export_onnx(model, path, artifact, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"stride": 4},
        {"params": 7},
        {"classes": ClassSet(("a", "b"))},
        {"input_spec": InputSpec((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))},
    ],
)
def test_artifact_of_another_network_is_refused(
    model: SegmentationModel, artifact: Artifact, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        export_onnx(model, tmp_path / "a.onnx", replace(artifact, **change))
    with pytest.raises(ConfigError, match="classes"):
        describe(model, ClassSet(("a", "b")))
    check_artifact(model, artifact)


class AdaptivePooling(TinyNet):
    """torch exports it for any size, and it is wrong at all but one."""

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        out = super().compute(image)["out"]
        return {"out": out + nn.functional.interpolate(nn.functional.adaptive_avg_pool2d(out, 4), out.shape[-2:])}


def test_network_of_a_fixed_size_is_refused(tmp_path: Path) -> None:
    net, old = FixedPlace(), tmp_path / "a.onnx"
    old.write_bytes(b"earlier")
    with pytest.raises(ArtifactError, match=r"FixedPlace cannot be exported for any size.*fixed at 256") as caught:
        export_onnx(net, old, describe(net, CLASSES))
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
    assert old.read_bytes() == b"earlier"


@pytest.mark.parametrize(("axis", "words"), [(0, "batch of logits"), (2, "height of logits"), (3, "width of logits")])
def test_each_fixed_dimension_is_refused(axis: int, words: str) -> None:
    image = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["b", "h", "w", 3])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["b", 4, "y", "x"])
    proto = helper.make_model(helper.make_graph([], "g", [image], [logits]))
    export_module._check_free(proto, "Net", "logits")
    proto.graph.output[0].type.tensor_type.shape.dim[axis].dim_value = 32
    with pytest.raises(ArtifactError, match=f"{words} is fixed at 32"):
        export_module._check_free(proto, "Net", "logits")


def test_silently_wrong_export_is_caught(scenes: Scenes, tmp_path: Path) -> None:
    net = AdaptivePooling()
    with pytest.raises(VerificationError) as caught:
        export_verified(Checkpoint(net, CLASSES), tmp_path / "a.onnx", scenes, **QUICK)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_faulty_graph_leaves_nothing(
    model: SegmentationModel, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "_trace", lambda *_: onnx.ModelProto(ir_version=10))
    with pytest.raises(ArtifactError, match="faulty"):
        export_onnx(model, tmp_path / "a.onnx", artifact)
    assert list(tmp_path.iterdir()) == []


def test_atomic_path(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.onnx"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".onnx"
        temporary.write_bytes(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"two")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"one"
    assert [p.name for p in path.parent.iterdir()] == ["a.onnx"]


def test_prelus_of_one_slope_are_leaky_relus(tmp_path: Path) -> None:
    class Slopes(TinyNet):
        def __init__(self) -> None:
            super().__init__(3)
            self.slopes = nn.Sequential(nn.PReLU(init=0.3), nn.PReLU(3, init=0.2))

        def compute(self, image: Tensor) -> dict[str, Tensor]:
            return {"out": self.slopes(super().compute(image)["out"] - 0.5)}

    net = Slopes().eval()
    path = export_onnx(net, tmp_path / "slopes.onnx", describe(net, ClassSet(("a", "b", "c"))))
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node if "Relu" in node.op_type][-2:] == ["LeakyRelu", "PRelu"]
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used
    images = images_of(64, 96)
    with torch.no_grad():
        expected = Deployed(net)(torch.from_numpy(images)).numpy()
    assert (expected < 0).any()
    np.testing.assert_allclose(OnnxSession(path, threads=1).run(images), expected, atol=1e-5)


def test_write_artifact_changes_only_the_metadata(exported: Path, artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(exported.read_bytes())
    changed = replace(artifact, verification={"agreement": 0.5})
    write_artifact(path, changed)
    assert read_artifact(path) == changed
    assert onnx.load(str(path)).graph == onnx.load(str(exported)).graph
    write_artifact(path, artifact)
    assert path.read_bytes() == exported.read_bytes()
