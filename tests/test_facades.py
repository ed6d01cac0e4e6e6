"""The names that users of the networks know: each works as the README writes it, and wrong use is one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from conftest import TinyNet, Trained, street
from featherseg import (
    ClassSet,
    JetNet,
    LightweightSegmentationModel,
    ModelOptimizer,
    RealtimeSegmentation,
    ResNetUNet,
    SegmentationTrainer,
    Segmenter,
    TensorRTOptimizer,
    visualize_results,
)
from featherseg.core.errors import ArtifactError, ConfigError, DataError, FeathersegError, MissingExtraError
from featherseg.core.recipes import load_config
from featherseg.core.types import InputSpec
from featherseg.data.readers.public import VOC_CLASSES
from featherseg.data.user_loaders import LoaderDataset, as_sample, to_uint8
from featherseg.runtime.artifact import read_artifact
from featherseg.training.run_log import read_log

SIZE = (64, 96)


def pairs(count: int) -> tuple[Tensor, Tensor]:
    """Normalised float images and int64 masks, as torchvision's transforms give them."""
    images, masks = zip(*(street(i, SIZE) for i in range(count)), strict=True)
    floats = np.stack([InputSpec().normalize(image) for image in images])
    return torch.from_numpy(floats), torch.from_numpy(np.stack(masks)).long()


def loader(count: int, batch_size: int = 4) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*pairs(count)), batch_size=batch_size)


class Samples(torch.utils.data.Dataset[dict[str, Tensor]]):
    """The same pictures as featherseg's own samples."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, mask = street(index, SIZE)
        return {"image": torch.from_numpy(image).permute(2, 0, 1), "mask": torch.from_numpy(mask).long()}


def trainer(tmp_path: Path, **changes: Any) -> SegmentationTrainer:
    settings: dict[str, Any] = {
        "model": JetNet(num_classes=3),
        "train_loader": loader(8),
        "val_loader": loader(5, 2),
        "num_classes": 3,
        "learning_rate": 1e-2,
        "num_epochs": 1,
        "out": tmp_path,
        "quiet": True,
    }
    return SegmentationTrainer(**settings | changes)


class TestSegmentationTrainer:
    def test_ordinary_loaders(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        model = JetNet(num_classes=3)
        before = [parameter.clone() for parameter in model.parameters()]
        result = trainer(tmp_path, model=model, num_epochs=6).train()
        assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
        log = read_log(result.path)
        assert log[-1]["loss"] < log[0]["loss"]
        assert result.best.protocol["images"] == 5
        assert int(result.best.matrix.sum()) == sum(int((street(i, SIZE)[1] != 255).sum()) for i in range(5))
        config = load_config(result.path / "config.toml")
        assert (config.model.name, config.data.batch_size, config.augment.crop) == ("jetnet", 4, SIZE)
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", "")

        # The model in memory is the best epoch's, and so is the file.
        seg = RealtimeSegmentation(model_path=result.path / "best_model.pth", backend="pytorch", device="cpu")
        image = street(9, SIZE)[0]
        with torch.no_grad():
            logits = model.eval()(torch.from_numpy(InputSpec().normalize(image))[None])
        agreement = np.mean(seg.infer(image).mask == logits.argmax(1)[0].numpy())
        assert agreement > 0.999

    def test_featherseg_samples_and_own_classes_and_loss(self, tmp_path: Path) -> None:
        own = DataLoader(Samples(), batch_size=3)
        classes = ClassSet(("sky", "road", "car"))

        class Mine(nn.Module):
            calls = 0

            def forward(self, logits: Tensor, target: Tensor) -> Tensor:
                Mine.calls += 1
                return nn.functional.cross_entropy(logits, target, ignore_index=255)

        result = trainer(tmp_path, train_loader=own, val_loader=own, classes=classes, loss=Mine()).train()
        assert Mine.calls == 3
        assert result.best.classes.names == classes.names

    def test_float_and_uint8_validation_give_one_score(self, tmp_path: Path) -> None:
        """Normalised images are turned back into exactly the bytes they were."""
        spec, classes = InputSpec(), ClassSet(("sky", "road", "car"))
        floats, samples = LoaderDataset(loader(8), classes, spec), LoaderDataset(DataLoader(Samples()), classes, spec)
        for i in range(8):
            for one, other in zip(floats.read(i), samples.read(i), strict=True):
                np.testing.assert_array_equal(one, other)
        every = torch.arange(256, dtype=torch.uint8).repeat(3, 1)[:, None]
        back = to_uint8(torch.from_numpy(spec.normalize(every.permute(1, 2, 0).numpy())), spec)
        np.testing.assert_array_equal(back, every.permute(1, 2, 0))

    def test_images_that_are_not_normalised_are_noted(self, caplog: pytest.LogCaptureFixture) -> None:
        images = torch.rand(2, 3, 64, 64)
        masks = torch.zeros(2, 64, 64, dtype=torch.int64)
        LoaderDataset([(images, masks)], ClassSet(("a", "b")), InputSpec())
        assert "never below 0" in caplog.messages[0]
        LoaderDataset([(images - 0.5, masks)], ClassSet(("a", "b")), InputSpec())
        assert len(caplog.messages) == 1

    def test_a_second_training_needs_another_name(self, tmp_path: Path) -> None:
        trainer(tmp_path).train()
        with pytest.raises(ConfigError, match="holds a run already"):
            trainer(tmp_path).train()
        assert trainer(tmp_path, name="second").train().path == tmp_path / "second"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"num_classes": 4}, "num_classes is 4, but the network has 3"),
            ({"model": nn.Conv2d(3, 3, 1)}, "Conv2d, not a featherseg network"),
            ({"classes": ClassSet(("a", "b"))}, "classes 2, but the network has 3"),
            ({"learning_rate": -1.0}, r"optim\.lr is -1"),
            ({"num_epochs": 0}, r"train\.epochs is 0"),
            ({"train_loader": iter([])}, "has no length"),
            ({"train_loader": []}, "gives no batches"),
        ],
    )
    def test_wrong_arguments_are_refused_at_once(self, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(FeathersegError, match=words) as caught:
            trainer(tmp_path, **changes)
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    def test_loaders_that_cannot_be_counted(self, tmp_path: Path) -> None:
        class Stream(IterableDataset[Tensor]):
            def __iter__(self) -> Iterator[Tensor]:
                yield torch.zeros(1)

        with pytest.raises(DataError, match="has no length"):
            trainer(tmp_path, train_loader=DataLoader(Stream()))

    def test_a_network_that_could_not_be_rebuilt(self, tmp_path: Path) -> None:
        model = TinyNet(3)
        model.name = ""
        with pytest.raises(ConfigError, match="TinyNet is not registered"):
            trainer(tmp_path, model=model)

    def test_an_empty_validation_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="validation loader gives no batches"):
            trainer(tmp_path, val_loader=[]).train()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ((torch.zeros(2, 3, 8, 8), torch.full((2, 8, 8), -100)), "mask holds -100"),
        ((torch.zeros(2, 3, 8, 8), torch.full((2, 8, 8), 3)), "mask holds 3; class ids are 0 to 2"),
        ((torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8)), r"masks of torch\.float32"),
        ((torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8).long()), r"masks \(2, 1, 8, 8\)"),
        ((torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 9).long()), r"masks \(2, 8, 9\)"),
        ((torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8).long()), r"images \(2, 1, 8, 8\)"),
        ({"image": torch.zeros(2, 3, 8, 8), "label": torch.zeros(2, 8, 8)}, "keys"),
        ((torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8), ["name"]), "a tuple"),
    ],
)
def test_batches_of_another_kind_are_refused(batch: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        as_sample(batch, 3)
    assert "\n" not in str(caught.value)


def test_ignored_and_small_integer_masks_are_taken() -> None:
    mask = torch.tensor([[[0, 2, 255]]], dtype=torch.uint8)
    sample = as_sample([torch.zeros(1, 3, 1, 3), mask], 3)
    assert sample["mask"].dtype == torch.int64
    assert sample["mask"].flatten().tolist() == [0, 2, 255]


class TestRealtimeSegmentation:
    def test_a_video(self, trained: Trained, tmp_path: Path) -> None:
        (tmp_path / "frames").mkdir()
        for i in range(4):
            Image.fromarray(street(i, SIZE)[0]).save(tmp_path / "frames" / f"{i}.png")
        seg = RealtimeSegmentation(model_path=str(trained.run), backend="pytorch", device="cpu")
        source = tmp_path / "input.mp4"
        assert seg.infer_video(tmp_path / "frames", source) > 0
        fps = seg.infer_video(str(source), str(tmp_path / "output.mp4"))
        assert isinstance(fps, float)
        assert fps > 0
        assert (tmp_path / "output.mp4").stat().st_size > 0
        assert seg.infer_video(source) > 0

    def test_an_exported_file_at_a_fixed_size(self, trained: Trained) -> None:
        seg = RealtimeSegmentation(trained.file, size=(64, 64))
        image = street(0, (100, 130))[0]
        prediction = seg.infer(image)
        assert prediction.mask.shape == (100, 130)
        assert prediction.overlay().shape == image.shape

    def test_planned_for_the_first_image_and_open_to_others(self, trained: Trained) -> None:
        pytest.importorskip("openvino", reason="needs the extra openvino")
        seg = RealtimeSegmentation(trained.file, backend="openvino", threads=1)
        with pytest.raises(ConfigError, match="frame"):
            seg.infer(np.zeros((64, 96), np.uint8))
        for size in ((64, 96), (64, 96), (100, 130)):
            assert seg.infer(street(0, size)[0]).mask.shape == size
        assert seg.segmenter._plan is not None
        assert seg.segmenter._plan[0] == (64, 96)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    def test_cuda_without_cuda(self, trained: Trained) -> None:
        with pytest.raises(ConfigError, match="device is 'cuda'") as caught:
            RealtimeSegmentation(model_path=trained.run, backend="pytorch", device="cuda")
        assert "\n" not in str(caught.value)


class TestModelOptimizer:
    def test_export_runs_as_the_network(self, tmp_path: Path) -> None:
        model = JetNet(num_classes=3)
        path = ModelOptimizer(model, ClassSet(("a", "b", "c"))).export_to_onnx(tmp_path / "model.onnx")
        assert model.training  # left as it was
        artifact = read_artifact(path)
        assert (artifact.network, artifact.classes.names, artifact.verification) == ("jetnet", ("a", "b", "c"), {})
        image = street(0, SIZE)[0]
        with torch.no_grad():
            expected = model.eval().outputs(torch.from_numpy(InputSpec().normalize(image))[None])["out"][0].numpy()
        np.testing.assert_allclose(Segmenter(path).logits(image), expected, atol=1e-3 * np.abs(expected).max())

    def test_a_network_that_returns_features(self, tmp_path: Path) -> None:
        model = LightweightSegmentationModel(num_classes=3, pretrained=False, return_features=True)
        assert ModelOptimizer(model).benchmark(iterations=1, size=SIZE)["fps"] > 0
        assert visualize_results(model, loader(1), tmp_path / "grid.png").ndim == 3

        class Featured(TinyNet):  # the same habit, and quick to export
            def forward(self, image: Tensor) -> Any:
                return super().forward(image), {"low": self.outputs(image)["x4"]}

        path = ModelOptimizer(Featured(3)).export_to_onnx(tmp_path / "m.onnx")
        assert Segmenter(path).segment(street(0, SIZE)[0]).shape == SIZE

    def test_benchmark(self) -> None:
        figures = ModelOptimizer(JetNet(num_classes=3)).benchmark(iterations=7, size=SIZE)
        assert set(figures) == {"fps", "avg_time_ms", "p50_ms", "p90_ms", "p99_ms"}
        assert figures["fps"] == pytest.approx(1000 / figures["avg_time_ms"])
        assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"]
        with pytest.raises(ConfigError, match="runs is 0"):
            ModelOptimizer(JetNet(num_classes=3)).benchmark(iterations=0, size=SIZE)

    def test_quantize_dynamic(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        figures = ModelOptimizer(JetNet(num_classes=21)).quantize_dynamic()
        assert Path(figures["path"]) == Path("jetnet_int8.onnx")
        assert figures["bytes"] == (tmp_path / "jetnet_int8.onnx").stat().st_size
        assert figures["times_smaller"] > 3
        assert {"latency_ms", "fp32_latency_ms", "fp32_bytes", "summary"} <= set(figures)
        assert "times smaller" in figures["summary"]
        assert [path.name for path in tmp_path.iterdir()] == ["jetnet_int8.onnx"]

    def test_an_unregistered_network_of_ones_own(self, tmp_path: Path) -> None:
        model = TinyNet(3, width=8)
        model.name = ""
        optimizer = ModelOptimizer(model)
        assert optimizer.benchmark(iterations=1, size=SIZE)["fps"] > 0
        assert read_artifact(optimizer.export_to_onnx(tmp_path / "own.onnx")).network == "TinyNet"

    def test_other_modules_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="Conv2d, not a featherseg network"):
            ModelOptimizer(nn.Conv2d(3, 3, 1))  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="classes 2, but the network has 3"):
            ModelOptimizer(JetNet(num_classes=3), ClassSet(("a", "b")))


def test_tensorrt_says_what_it_needs(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r'pip install "featherseg\[tensorrt\]"') as caught:
        TensorRTOptimizer(str(trained.file)).build_engine(tmp_path / "model.engine", precision="fp16")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


class TestVisualizeResults:
    def test_five_samples_by_three_pictures_in_vocs_colours(self, tmp_path: Path) -> None:
        images, masks = pairs(6)
        masks[masks == 2] = 15  # VOC's person
        path = tmp_path / "results.png"
        grid = visualize_results(ResNetUNet(21), [(images[:2], masks[:2]), (images[2:], masks[2:])], path)
        np.testing.assert_array_equal(np.array(Image.open(path)), grid)
        assert grid.dtype == np.uint8
        height, width = grid.shape[:2]
        assert 5 / 3 * SIZE[0] / SIZE[1] <= height / width < 1.5
        # The truth's column holds the person's colour once a row.
        person = (grid == VOC_CLASSES.colors[15]).all(axis=2)[:, width // 3 : 2 * width // 3]
        rows = np.flatnonzero(np.diff(np.pad(person.sum(axis=1) > 20, 1).astype(int)) == 1)
        assert len(rows) >= 5

    def test_leaves_the_network_as_it_was_and_takes_other_classes(
        self, tiny: Callable[..., TinyNet], tmp_path: Path
    ) -> None:
        model = tiny(3)
        model.train()
        grid = visualize_results(model, DataLoader(Samples(), batch_size=1), tmp_path / "few.png", count=2)
        assert model.training
        assert grid.shape[0] < grid.shape[1]
        named = ClassSet(("sky", "road", "car"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
        grid = visualize_results(model, loader(2), tmp_path / "named.png", classes=named)
        assert (grid == (4, 5, 6)).all(axis=2).sum() > 1000

    def test_mistakes(self, tmp_path: Path) -> None:
        model = JetNet(num_classes=3)
        for given, changes, words in [
            (loader(2), {"count": 0}, "count is 0"),
            ([], {}, "no batches"),
            (loader(2), {"classes": ClassSet(("a",))}, "classes 1, but the network has 3"),
            (loader(2), {"path": tmp_path / "grid.doc"}, "grid.doc"),
        ]:
            with pytest.raises((ConfigError, DataError, ArtifactError), match=words):
                visualize_results(model, given, **{"path": tmp_path / "grid.png", **changes})
        assert list(tmp_path.iterdir()) == []
