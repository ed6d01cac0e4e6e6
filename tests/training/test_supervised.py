from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conftest import Tiny, batch
from featherseg.core.types import InputSpec
from featherseg.models.base import resize_like
from featherseg.models.factory import create_model
from featherseg.training.losses import CrossEntropyLoss
from featherseg.training.supervised import Supervised, normalize


def test_normalize_agrees_with_numpy() -> None:
    spec = InputSpec((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    image = batch()["image"]
    expected = np.stack([spec.normalize(x.permute(1, 2, 0).numpy()) for x in image])
    np.testing.assert_allclose(normalize(image, spec).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [0.4, 1.0])
def test_the_total_is_the_weighted_sum_of_its_parts(tiny: Tiny, weight: float) -> None:
    model = tiny().train()
    losses = Supervised(model, CrossEntropyLoss(), CrossEntropyLoss(label_smoothing=0.1), weight)(batch())
    assert set(losses) == {"loss", "loss/out", "loss/aux_4"}
    torch.testing.assert_close(losses["loss"], losses["loss/out"] + weight * losses["loss/aux_4"])


def test_the_parts_are_the_losses_of_upsampled_logits(tiny: Tiny) -> None:
    model, data = tiny().train(), batch()
    losses = Supervised(model, CrossEntropyLoss(), CrossEntropyLoss(label_smoothing=0.1))(data)
    maps = model.outputs(normalize(data["image"], model.input_spec))
    out = nn.functional.cross_entropy(resize_like(maps["out"], data["mask"]), data["mask"])
    logits = resize_like(maps["aux_4"], data["mask"])
    aux = nn.functional.cross_entropy(logits, data["mask"], label_smoothing=0.1)
    torch.testing.assert_close(losses["loss/out"], out)
    torch.testing.assert_close(losses["loss/aux_4"], aux)


def test_losses_get_the_logits_at_their_own_strides(tiny: Tiny) -> None:
    class Recorder(nn.Module):
        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            shapes.append((tuple(logits.shape[-2:]), tuple(target.shape[-2:])))
            return logits.sum()

    shapes: list[Any] = []
    model, data = tiny().train(), batch((33, 90))
    maps = model.outputs(normalize(data["image"], model.input_spec))
    Supervised(model, Recorder(), Recorder())(data)
    assert shapes == [(tuple(maps[name].shape[-2:]), (33, 90)) for name in ("out", "aux_4")]
    assert shapes[0][0] != (33, 90)


def test_no_auxiliary_losses_at_weight_0_or_in_eval(tiny: Tiny) -> None:
    loss = CrossEntropyLoss()
    assert set(Supervised(tiny().train(), loss, loss, 0.0)(batch())) == {"loss", "loss/out"}
    assert set(Supervised(tiny(), loss, loss).eval()(batch())) == {"loss", "loss/out"}


def test_uint8_and_normalised_images_are_one(tiny: Tiny) -> None:
    model, data = tiny(), batch()
    objective = Supervised(model, CrossEntropyLoss(), CrossEntropyLoss()).eval()
    ready = data | {"image": normalize(data["image"], model.input_spec)}
    torch.testing.assert_close(objective(data)["loss"], objective(ready)["loss"], rtol=0, atol=0)


@pytest.mark.parametrize("size", [(64, 72), (33, 41)])
def test_every_parameter_gets_a_gradient(tiny: Tiny, size: tuple[int, int]) -> None:
    model = tiny().train()
    objective = Supervised(model, CrossEntropyLoss(), CrossEntropyLoss())
    objective(batch(size))["loss"].backward()
    for name, p in objective.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0 or name == "model.encoder.0.bias"  # batch norm takes it out again


def test_without_weight_the_auxiliary_head_still_gets_a_zero_gradient() -> None:
    """DistributedDataParallel waits for a gradient of each parameter."""
    model = create_model("fastsegnet", 4, width=0.5).train()
    objective = Supervised(model, CrossEntropyLoss(), CrossEntropyLoss(), aux_weight=0.0)
    batch = {"image": torch.rand(2, 3, 64, 64), "mask": torch.randint(0, 4, (2, 64, 64))}
    losses = objective(batch)
    losses["loss"].backward()
    torch.testing.assert_close(losses["loss"], losses["loss/out"])
    assert all(p.grad is not None for p in model.parameters())
    assert all(float(p.grad.abs().max()) == 0 for p in model.aux_head.parameters())
