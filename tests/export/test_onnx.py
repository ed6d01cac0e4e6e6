from __future__ import annotations

import copy
import json
import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

from featherseg.checkpoint import Checkpoint
from featherseg.errors import ArtifactError, ConfigError, DataError, VerificationError
from featherseg.export import onnx as export_module
from featherseg.export import verify as verify_module
from featherseg.export.onnx import Deployed, atomic_path, export_onnx, write_artifact
from featherseg.export.verify import Parity, Quality, Tolerance, VerifyResult, export_verified, verify
from featherseg.models.base import SegmentationModel, create_model
from featherseg.models.layers import ConvBNAct
from featherseg.runtime import segmenter as segmenter_module
from featherseg.runtime.artifact import Artifact, read_artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions import OnnxSession, Session
from featherseg.torch_session import TorchSession, check_artifact, describe, evaluating
from featherseg.types import ClassSet, InputSpec

CLASSES = ClassSet(("sky", "road", "tree", "car"))
QUICK = {"sizes": ((64, 96), (77, 101)), "threads": 1}


class TinyNet(SegmentationModel):
    """Four convolutions, stride 8, dropout and a batch norm that matter if the mode is wrong."""

    stride = 8

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = ConvBNAct(3, 8, stride=2)
        self.body = nn.Sequential(ConvBNAct(8, 12, stride=2), ConvBNAct(12, 16, stride=2), nn.Dropout2d(0.5))
        self.head = nn.Conv2d(16, num_classes, 1)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        return {"out": self.head(self.body(self.stem(image)))}


@dataclass(frozen=True)
class Scenes:
    """Smooth random pictures of different sizes, some below the smallest, whose truth is given or random."""

    sizes: tuple[tuple[int, int], ...] = ((96, 130), (72, 101), (40, 150), (128, 96))
    truth: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    name: str = "scenes"
    split: str = "val"
    classes: ClassSet = field(default=CLASSES)

    def __len__(self) -> int:
        return len(self.sizes)

    def stem(self, index: int) -> str:
        return f"scene{index}"

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        height, width = self.sizes[index]
        rng = np.random.default_rng(index)
        coarse = rng.integers(0, 256, (height // 12 + 1, width // 12 + 1, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        mask = rng.integers(0, 4, (height, width), dtype=np.uint8) if self.truth is None else self.truth(image).copy()
        mask[:3] = 255
        return image, mask


def torch_mask(model: SegmentationModel, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Oracle: the network alone, by InputSpec's arithmetic."""
    with torch.no_grad():
        logits = model(torch.from_numpy(model.input_spec.normalize(image))[None])
    return logits.argmax(1)[0].numpy().astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(3)
    net = TinyNet().train()
    images = np.stack([cv2.resize(Scenes().read(i)[0], (96, 96)) for i in range(4)])
    batch = torch.stack([torch.from_numpy(net.input_spec.normalize(image)) for image in images])
    with torch.no_grad():
        for _ in range(40):
            net(batch)  # running statistics that are not the identity
        net.eval()
        logits = net.outputs(batch)["out"]
        spread = logits.std(dim=(0, 2, 3), keepdim=True)
        net.head.weight.mul_(3 / spread.view(-1, 1, 1, 1))
        net.head.bias.copy_(-net.outputs(batch)["out"].mean(dim=(0, 2, 3)) + net.head.bias)
    shares = np.bincount(torch_mask(net, images[0]).ravel(), minlength=4) / 96**2
    assert (shares > 0.02).sum() >= 3, "the network tells no classes apart, so it would hide faults"
    return net


@pytest.fixture(scope="module")
def artifact(model: SegmentationModel) -> Artifact:
    return describe(model, CLASSES, {"epochs": 3})


@pytest.fixture(scope="module")
def exported(model: SegmentationModel, artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(model, tmp_path_factory.mktemp("file") / "tiny.onnx", artifact)


@pytest.fixture
def no_export(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies the file that is there instead of exporting it anew, which takes seconds."""
    monkeypatch.setattr(verify_module, "export_onnx", lambda _, path, __: shutil.copy(exported, path))


@pytest.fixture
def scenes(model: SegmentationModel) -> Scenes:
    return Scenes(truth=lambda image: torch_mask(model, image))


def images_of(*size: int, batch: int = 1) -> NDArray[np.uint8]:
    return np.stack([cv2.resize(Scenes().read(i)[0], size[::-1]) for i in range(batch)])


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


class FixedPlace(TinyNet):
    """torch exports it for 256x256 alone, without an error."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, 4, 32, 32))

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        return {"out": super().compute(image)["out"] + self.place}


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


def test_write_artifact_changes_only_the_metadata(exported: Path, artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(exported.read_bytes())
    changed = replace(artifact, verification={"agreement": 0.5})
    write_artifact(path, changed)
    assert read_artifact(path) == changed
    assert onnx.load(str(path)).graph == onnx.load(str(exported)).graph
    write_artifact(path, artifact)
    assert path.read_bytes() == exported.read_bytes()


def test_jetnet(tmp_path: Path) -> None:
    pytest.importorskip("featherseg.models.jetnet")
    torch.manual_seed(0)
    net = create_model("jetnet", num_classes=4)
    scenes = Scenes(sizes=((96, 130), (50, 150)), truth=lambda image: torch_mask(net.eval(), image))
    path = tmp_path / "net.onnx"
    result = export_verified(Checkpoint(net, CLASSES), path, scenes, threads=1)
    assert result.passed, str(result)
    assert [parity.size for parity in result.parity] == [(64, 96), (256, 512), (333, 517)]
    assert path.is_file()


def test_torch_session(model: SegmentationModel, artifact: Artifact, exported: Path) -> None:
    net = copy.deepcopy(model).train()
    net.stem.eval()
    modes = [module.training for module in net.modules()]
    session = TorchSession(net, artifact)
    assert isinstance(session, Session)
    assert f"threads: {torch.get_num_threads()}, f32, channels_last, torch" in session.device
    images = images_of(77, 130, batch=2)
    reference = OnnxSession(exported, threads=1).run(images)
    limit = 2e-5 * np.abs(reference).max()
    np.testing.assert_allclose(session.run(images), reference, atol=limit)
    assert [module.training for module in net.modules()] == modes
    images.flags.writeable = False
    np.testing.assert_allclose(
        session.run(images[:, :, ::-1]), OnnxSession(exported, threads=1).run(images[:, :, ::-1].copy()), atol=limit
    )
    for size in ((40, 100), (96, 130)):
        frame = images_of(*size)[0]
        assert (Segmenter(session).segment(frame) == Segmenter(exported, threads=1).segment(frame)).mean() > 0.999
    rough = TorchSession(net, artifact, precision="bf16", channels_last=False).run(images)
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - reference).max() < 0.1 * np.abs(reference).max()
    assert next(net.parameters()).dtype == torch.float32


def test_torch_session_refuses_what_is_not_there(model: SegmentationModel, artifact: Artifact) -> None:
    for options, word in [
        ({"precision": "fp16"}, "precision"),
        ({"device": "cuda:99"}, "device"),
        ({"device": "gpu"}, "device"),
    ]:
        with pytest.raises(ConfigError, match=word) as caught:
            TorchSession(model, artifact, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="stride"):
        TorchSession(model, replace(artifact, stride=2))


def test_evaluating_restores_after_an_error(model: SegmentationModel) -> None:
    net = copy.deepcopy(model).train()
    net.stem.eval()
    modes = [module.training for module in net.modules()]

    def failing() -> None:
        with evaluating(net):
            assert not any(module.training for module in net.modules())
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert [module.training for module in net.modules()] == modes


def test_verified_export_carries_its_figures(
    model: SegmentationModel, artifact: Artifact, scenes: Scenes, tmp_path: Path
) -> None:
    seen = []
    path = tmp_path / "a.onnx"
    net = copy.deepcopy(model).train()
    result = export_verified(
        Checkpoint(net, artifact.classes, artifact.training),
        path,
        scenes,
        progress=lambda *done: seen.append(done),
        **QUICK,
    )
    assert net.training
    assert result.passed
    assert result.failures == ()
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    # The truth is the network's own mask, so every figure of torch is exactly one.
    assert result.torch == Quality(1.0, (1.0,) * 4, 1.0)
    assert result.file.miou == pytest.approx(1, abs=1e-3)
    assert result.agreement > 0.9995
    assert "passed" in str(result)
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
    stored = read_artifact(path)
    assert replace(stored, verification={}) == artifact
    figures = stored.verification
    assert figures == json.loads(json.dumps(result.to_dict()))
    assert figures["dataset"] == "scenes val"
    assert (figures["images"], figures["sizes"]) == (4, [[64, 96], [77, 101]])
    assert figures["tolerance"] == {"max_logit_error": 1e-3, "min_agreement": 0.9995, "max_miou_drop": 0.001}
    assert figures["miou_torch"] == 1.0


def test_figures_are_those_of_the_masks(model: SegmentationModel, exported: Path) -> None:
    scenes = Scenes()  # random truth: mIoU is low, and must be so in both
    result = verify(model, exported, scenes, **QUICK)
    hits, union = np.zeros(4), np.zeros(4)
    for i in range(len(scenes)):
        image, target = scenes.read(i)
        mask, valid = torch_mask(model, image), target != 255
        for k in range(4):
            hits[k] += (valid & (mask == k) & (target == k)).sum()
            union[k] += (valid & ((mask == k) | (target == k))).sum()
    assert result.torch.miou == pytest.approx((hits / union).mean())
    assert result.torch.iou == pytest.approx(tuple(hits / union))
    assert result.passed


Weights = dict[str, NDArray[np.float32]]


def bgr(weights: Weights) -> None:
    weights["model.stem.0.weight"] = weights["model.stem.0.weight"][:, [2, 1, 0]]


def shuffled(weights: Weights) -> None:
    for name in ("model.head.weight", "model.head.bias"):
        weights[name] = np.roll(weights[name], 1, axis=0)


def no_scaling(weights: Weights) -> None:
    weights["scale"], weights["shift"] = np.full_like(weights["scale"], 1 / 255), np.zeros_like(weights["shift"])


def statistics_of_bgr(weights: Weights) -> None:
    weights["scale"], weights["shift"] = weights["scale"][:, ::-1], weights["shift"][:, ::-1]


def lost_class(weights: Weights) -> None:
    weights["model.head.bias"][1] -= 1000


@pytest.mark.parametrize("sabotage", [bgr, shuffled, no_scaling, statistics_of_bgr, lost_class])
def test_sabotaged_file_fails(
    model: SegmentationModel, exported: Path, scenes: Scenes, tmp_path: Path, sabotage: Callable[[Weights], None]
) -> None:
    proto = onnx.load(str(exported))
    weights = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in proto.graph.initializer}
    sabotage(weights)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weights[tensor.name]), tensor.name))
    path = tmp_path / "a.onnx"
    onnx.save(proto, str(path))
    result = verify(model, path, scenes, **QUICK)
    assert [text.split()[0] for text in result.failures] == ["logits", "masks", "mIoU"]
    assert "scene" in result.failures[1]
    assert any(f"class {name}:" in result.failures[2] for name in CLASSES.names)
    assert result.file.miou < result.torch.miou - 0.01
    if sabotage is lost_class:
        assert "worst in class road: 100.00 to 0.00" in result.failures[2]


def align_corners(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    maps = nn.functional.interpolate(
        torch.from_numpy(logits.copy())[None], size=size, mode="bilinear", align_corners=True
    )
    return maps.argmax(1)[0].numpy().astype(np.uint8)


def truncated(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """What a fixed factor of 8 does to sizes that it does not divide: grown too far, then cut."""
    grown = logits.repeat(8, 1).repeat(8, 2).argmax(0).astype(np.uint8)
    return grown[: size[0], : size[1]]


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("fault", [align_corners, truncated])
def test_sabotaged_postprocessing_fails_and_leaves_no_file(
    model: SegmentationModel,
    artifact: Artifact,
    scenes: Scenes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[..., NDArray[np.uint8]],
) -> None:
    monkeypatch.setattr(segmenter_module, "upsample_argmax", fault)
    path = tmp_path / "a.onnx"
    with pytest.raises(VerificationError, match="masks agree in") as caught:
        export_verified(Checkpoint(model, artifact.classes, artifact.training), path, scenes, **QUICK)
    assert "logits" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_export")
def test_failed_export_keeps_the_earlier_file(
    model: SegmentationModel, artifact: Artifact, scenes: Scenes, tmp_path: Path
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"earlier")
    with pytest.raises(VerificationError):
        export_verified(
            Checkpoint(model, artifact.classes, artifact.training),
            path,
            scenes,
            Tolerance(max_logit_error=0.0),
            **QUICK,
        )
    assert path.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_wrong_spatial_size_of_logits_fails(
    model: SegmentationModel, exported: Path, scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxSession.run
    monkeypatch.setattr(OnnxSession, "run", lambda self, images: run(self, images)[:, :, :-1])
    result = verify(model, exported, scenes, **QUICK)
    assert not result.passed
    assert "inf" in result.failures[0]
    json.dumps(result.to_dict(), allow_nan=False)


def test_file_that_breaks_at_a_size_fails(
    model: SegmentationModel, exported: Path, scenes: Scenes, tmp_path: Path
) -> None:
    proto = onnx.load(str(exported))
    wanted = numpy_helper.from_array(np.zeros((1, 4, 32, 32), np.float32), "place")
    proto.graph.initializer.append(wanted)
    proto.graph.node[-1].output[0] = "before"
    proto.graph.node.append(helper.make_node("Add", ["before", "place"], ["logits"]))
    path = tmp_path / "a.onnx"
    onnx.save(proto, str(path))
    with pytest.raises(VerificationError, match=r"does not run where its network does.*\(2, 64, 96, 3\)") as caught:
        verify(model, path, scenes, **QUICK)
    assert "\n" not in str(caught.value)


def test_nan_logits_fail(
    model: SegmentationModel, exported: Path, scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxSession.run
    monkeypatch.setattr(OnnxSession, "run", lambda self, images: run(self, images) * np.float32("nan"))
    result = verify(model, exported, scenes, **QUICK)
    assert "logits differ by nan" in result.failures[0]


def test_verify_refuses_other_data(model: SegmentationModel, exported: Path) -> None:
    with pytest.raises(ConfigError, match="verify on the dataset"):
        verify(model, exported, Scenes(classes=ClassSet(("sky", "tree", "road", "car"))), **QUICK)
    with pytest.raises(DataError, match="empty"):
        verify(model, exported, Scenes(sizes=()), **QUICK)
    for sizes in ((), ((32, 64),)):
        with pytest.raises(ConfigError, match="sizes"):
            verify(model, exported, Scenes(), sizes=sizes)
    unlabelled = Scenes(sizes=((64, 64),), truth=lambda image: np.full(image.shape[:2], 255, np.uint8))
    result = verify(model, exported, unlabelled, **QUICK)
    assert result.agreement > 0.999
    assert "no labelled pixel" in result.failures[0]
    assert result.to_dict()["miou"] is None


def result_with(**changes: Any) -> VerifyResult:
    quality = Quality(0.7, (0.5, 0.9, 0.7, math.nan), 0.6)
    whole = VerifyResult(
        CLASSES,
        "x val",
        2,
        "paper",
        (Parity((64, 64), 1e-4, 1e-5, "a"),),
        1.0,
        ("a", 1.0),
        quality,
        quality,
        Tolerance(),
    )
    return replace(whole, **changes)


def test_limits_name_figure_limit_and_place() -> None:
    assert result_with().passed
    at_limit = Parity((64, 64), 1.0, 1e-3, "a")
    assert result_with(parity=(at_limit,), agreement=0.9995).passed
    beyond = (at_limit, Parity((77, 99), 1.0, 1.1e-3, "b"))
    (failure,) = result_with(parity=beyond).failures
    assert failure == "logits differ by 1.10e-03 of the largest (limit 1.00e-03), worst at 77x99 in image b"
    (failure,) = result_with(agreement=0.9, worst_image=("c", 0.25)).failures
    assert failure == "masks agree in 90.0000% of the pixels (limit 99.9500%), worst in image c with 25.0000%"
    (failure,) = result_with(file=Quality(0.69, (0.5, 0.87, 0.7, math.nan), 0.6)).failures
    assert failure == "mIoU falls from 70.00 to 69.00 (limit 0.10 points), worst in class road: 90.00 to 87.00"
    (failure,) = result_with(file=Quality(0.525, (0.5, 0.9, 0.7, 0.0), 0.6)).failures
    assert failure.endswith("worst in class car: absent to 0.00")
    assert result_with(file=Quality(0.9, (0.9,) * 4, 0.9)).passed, "a gain is no failure"
    nan = Parity((64, 64), math.nan, math.nan, "n")
    assert "image n" in result_with(parity=(nan, *beyond)).failures[0]
    text = str(result_with(file=Quality(0.69, (0.5, 0.87, 0.7, math.nan), 0.6)))
    assert "mIoU 69.00 (torch 70.00)" in text
    assert "FAILED: mIoU" in text


@pytest.mark.parametrize("limits", [{"min_agreement": 99.95}, {"max_logit_error": -1.0}, {"max_miou_drop": math.nan}])
def test_tolerance_is_checked(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        Tolerance(**limits)


def test_parity_reads_images_spread_over_the_dataset(model: SegmentationModel, exported: Path) -> None:
    scenes = Scenes()
    parity = verify_module._parity(model, OnnxSession(exported, threads=1), scenes, (333, 517))
    assert parity.image in {"scene0", "scene3"}
    assert 0 <= parity.relative < 1e-4
