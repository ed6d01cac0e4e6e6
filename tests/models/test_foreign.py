"""Modules of other libraries as networks: what is found out of them, and the way from one to a proven int8 file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import featherseg
from conftest import error_line
from featherseg.core.errors import CheckpointError, ConfigError
from featherseg.data.datasets import create_dataset
from featherseg.models import factory
from featherseg.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from featherseg.models.foreign import ForeignModel, as_network, wrap
from featherseg.runtime.segmenter import Segmenter
from test_public_face import keep_entries
from trainings import tiny_config

CLASSES = len(create_dataset("synthetic").classes)


class Net(nn.Module):
    """Encoder, decoder with a skip, and logits in the form of one library or another; sides in steps, as U-Nets'."""

    def __init__(self, classes: int = CLASSES, stride: int = 4, step: int = 8, form: str = "tensor") -> None:
        super().__init__()
        self.step, self.form = step, form
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, stride=stride, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head, self.aux = nn.Conv2d(8, classes, 1), nn.Conv2d(8, classes, 1)

    def forward(self, image: Tensor) -> Any:
        if not torch.compiler.is_compiling() and any(side % self.step for side in image.shape[-2:]):
            raise RuntimeError(f"sides must be multiples of {self.step}")
        x = self.encoder(image)
        logits, aux = self.head(x), self.aux(x)
        forms: dict[str, Callable[[], Any]] = {
            "tensor": lambda: logits,
            "torchvision": lambda: {"out": logits, "aux": aux},
            "transformers": lambda: SimpleNamespace(logits=logits, hidden_states=None),
            "mapping": lambda: {"loss": None, "logits": logits},
            "tuple": lambda: (logits, aux, x.mean()),
            "text": lambda: "logits",
            "flat": lambda: logits.mean((2, 3)),
        }
        return forms[self.form]()


def net(**options: Any) -> Net:
    torch.manual_seed(0)
    return Net(**options)


@pytest.mark.parametrize("step", [1, 2, 16, 32, 64])
@pytest.mark.parametrize("stride", [1, 4])
def test_stride_and_multiple_are_found(stride: int, step: int) -> None:
    model = wrap(net(stride=stride, step=step))
    assert isinstance(model, ForeignModel)
    assert (model.stride, model.multiple, model.num_classes) == (stride, max(step, 1), CLASSES)
    with torch.no_grad():
        for height, width in ((70, 99), (64, 128), (20, 200)):
            image = torch.rand(1, 3, height, width)
            assert model.eval().outputs(image)["out"].shape[-2:] == (-(-height // stride), -(-width // stride))
            assert model(image).shape == (1, CLASSES, height, width)


def test_padding_changes_nothing_where_sizes_fit() -> None:
    module = net(step=16).eval()
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(wrap(module).outputs(image)["out"], module(image))


@pytest.mark.parametrize("form", ["tensor", "torchvision", "transformers", "mapping", "tuple"])
def test_forms_of_output(form: str) -> None:
    model = wrap(net(form=form))
    image = torch.rand(2, 3, 70, 99)
    model.train()
    auxiliary = {name for name in model.outputs(image) if name != "out"}
    assert auxiliary == {"torchvision": {"aux_aux"}, "tuple": {"aux_1"}}.get(form, set())
    assert set(model.eval().outputs(image)) == {"out"}


def test_the_module_is_used_in_place_and_left_as_it_was() -> None:
    module = net().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    model = wrap(module, CLASSES, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), long_side=320)
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert model.module is module
    assert (model.input_spec.mean, model.input_spec.long_side) == ((0.5, 0.5, 0.5), 320)
    assert {id(p) for p in model.encoder_parameters()} == {id(p) for p in module.encoder.parameters()}
    assert wrap(model) is model
    assert as_network(module).state_dict().keys() == model.state_dict().keys()


def test_code_that_makes_tensors_of_its_own_is_tried_for_real() -> None:
    class Positions(Net):
        def forward(self, image: Tensor) -> Any:
            return super().forward(image + torch.zeros(image.shape).cumsum(2).numpy().max())  # no memory, no NumPy

    model = wrap(Positions(step=1))
    assert (model.stride, model.multiple) == (4, 1)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (lambda: nn.Linear(3, 2), "cannot be called on an image"),
        (lambda: Net(form="text"), "gives a str"),
        (lambda: Net(form="flat"), "takes logits (B, C, h, w)"),
        (lambda: Net(classes=1), "build it with 2 classes"),
        (lambda: nn.AdaptiveAvgPool2d(7), "one whole stride"),
        (lambda: "unet", "give a torch module"),
    ],
)
def test_what_is_no_network_is_refused(module: Callable[[], Any], said: str) -> None:
    assert said in error_line(ConfigError, wrap, module())


def test_another_number_of_classes_is_refused() -> None:
    assert f"build it with {CLASSES + 1} classes" in error_line(ConfigError, wrap, net(), CLASSES + 1)


def test_weights_need_the_object(tmp_path: Path) -> None:
    classes = create_dataset("synthetic").classes
    trained = wrap(net(), mean=(0.5, 0.5, 0.5))
    file = save_checkpoint(tmp_path / "net.safetensors", Checkpoint(trained, classes, {"epoch": 3}))
    assert "load_checkpoint(..., model=...)" in error_line(CheckpointError, load_checkpoint, file)
    torch.manual_seed(1)
    module = Net()
    again = load_checkpoint(file, model=module)
    assert again.model.module is module  # type: ignore[union-attr]
    assert again.training == {"epoch": 3}
    assert again.model.input_spec.mean == (0.5, 0.5, 0.5)
    assert torch.equal(module.head.weight, trained.module.head.weight)  # type: ignore[union-attr]
    assert "module:Net" in error_line(CheckpointError, load_checkpoint, file, model=Net(classes=3))


def test_a_registered_builder_rebuilds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_entries(factory.models, monkeypatch)

    @featherseg.register_model("my_net")
    def my_net(num_classes: int, step: int = 8, pretrained: bool = False) -> nn.Module:
        return Net(num_classes, step=step)

    model = featherseg.create_model("my_net", CLASSES, step=2, pretrained=True)
    assert (model.name, model.options) == ("my_net", {"step": 2})
    file = save_checkpoint(tmp_path / "net.safetensors", Checkpoint(model, create_dataset("synthetic").classes))
    again = load_checkpoint(file).model
    assert isinstance(again, ForeignModel)
    assert again.multiple == 2
    assert torch.equal(again.module.head.weight, model.module.head.weight)
    assert "registered without facts" in error_line(ConfigError, factory.model_facts, "my_net")


def test_no_name_builds_an_object() -> None:
    assert "model=" in error_line(ConfigError, featherseg.create_model, "module:Net", 3)


def test_prune_refuses_in_one_line() -> None:
    for model in (net(), wrap(net())):
        assert "Net is a module that no name builds" in error_line(ConfigError, featherseg.prune, model, 0.3)


def test_evaluate_and_segment_a_network_in_memory() -> None:
    val_set = create_dataset("synthetic", split="val", val_count=2, size=(64, 96))
    module = net().train()
    result = featherseg.evaluate(module, val_set)
    assert result.classes == val_set.classes
    assert module.training
    prediction = Segmenter(module)(val_set.read(0)[0])
    assert prediction.classes.names[:2] == ("class_0", "class_1")
    assert Segmenter(module, classes=val_set.classes).artifact.classes == val_set.classes


@pytest.mark.slow
def test_train_resume_and_ship(tmp_path: Path) -> None:
    module = net(form="torchvision")
    untrained = module.head.weight.clone()
    config = tiny_config(tmp_path, train={"epochs": 1}, optim={"encoder_lr": 1e-3})
    run = featherseg.fit(config, model=module, quiet=True)
    assert not module.training
    assert not torch.equal(module.head.weight, untrained)
    assert 'name = "module:Net"' in (run.path / "config.toml").read_text()
    assert json.loads((run.path / "result.json").read_text())["gmacs"] > 0
    best = load_checkpoint(run.path, model=net(form="torchvision"))
    assert torch.equal(best.model.module.head.weight, module.head.weight)  # type: ignore[union-attr]
    assert "model=" in error_line(ConfigError, featherseg.resume_run, run.path, epochs=2, quiet=True)
    more = featherseg.resume_run(run.path, epochs=2, quiet=True, model=net(form="torchvision"))
    assert more.epochs == 2
    # What is hardly trained loses much to rounding.
    wide = ["ship.int8=true", "ship.max_drop=0.9", "ship.calibration=8", "ship.threads=1", "ship.pictures=0"]
    wide.append("ship.tolerances.int8={min_agreement=0.1, max_logit_error=10.0, max_confidence_error=1.0}")
    settings = featherseg.load_config(None, wide).ship
    report = featherseg.ship(run.path, tmp_path / "dist", settings, model=net(form="torchvision"))
    assert [file.passed for file in report.files] == [True, True]
    image = np.zeros((70, 90, 3), np.uint8)
    assert Segmenter(tmp_path / "dist" / "run_int8.onnx", threads=1)(image).mask.shape == (70, 90)


def test_a_wrong_number_of_classes_is_said_before_training(tmp_path: Path) -> None:
    said = error_line(ConfigError, featherseg.fit, tiny_config(tmp_path), model=net(classes=3), quiet=True)
    assert f"build it with {CLASSES}" in said
    assert not (tmp_path / "run").exists()


def test_a_start_is_refused_beside_an_object(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, model={"init": "cityscapes"})
    assert "model.init is 'cityscapes'" in error_line(ConfigError, featherseg.fit, config, model=net(), quiet=True)
