"""Networks for the tests of pruning, and ways to see that nothing but the removed channels is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conftest import VARIANTS, create_variant
from featherseg.compress.channels import ChannelGroup
from featherseg.compress.prune import PruneResult, prune
from featherseg.core.types import ClassSet
from featherseg.models.base import SegmentationModel

CLASSES = ClassSet(("a", "b", "c", "d", "e"))
Convolution = nn.Conv2d | nn.ConvTranspose2d
_results: dict[str, tuple[SegmentationModel, PruneResult]] = {}


def trained_like(model: SegmentationModel) -> SegmentationModel:
    """Make batch norms and biases those of no fresh network: none of them may be forgotten without a difference."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.5, 0.5),
                (layer.running_mean, -0.5, 0.5),
                (layer.running_var, 0.5, 1.5),
            ):
                tensor.data.uniform_(low, high, generator=generator)
        elif isinstance(layer, Convolution) and layer.bias is not None:
            layer.bias.data.uniform_(-0.5, 0.5, generator=generator)
    return model.eval()


SMALLER: dict[str, dict[str, Any]] = {"fastsegnet": {"width": 0.5}, "resnet_unet": {"encoder": "resnet18"}}


def build(name: str) -> SegmentationModel:
    torch.manual_seed(0)
    registered, _ = VARIANTS.get(name, (name, {}))
    return trained_like(create_variant(name, len(CLASSES), **SMALLER.get(registered, {})))


NOT_PRUNED = {"espnetv2_edge": "all its wide convolutions work on groups"}
"""Networks of which nothing can be pruned, and why."""


def halved(name: str) -> tuple[SegmentationModel, PruneResult]:
    """Each network and what pruning about half of it gives, made once: only to be read."""
    if name in NOT_PRUNED:
        pytest.skip(f"{name} cannot be pruned: {NOT_PRUNED[name]}")
    if name not in _results:
        model = build(name)
        _results[name] = model, prune(model, 0.45, ranking="uniform", example_size=(64, 96))
    return _results[name]


def logits(model: SegmentationModel, image: Tensor) -> dict[str, Tensor]:
    """The main and auxiliary logits, with batch norms in eval mode."""
    model.eval().training = True
    with torch.no_grad():
        maps = model.outputs(image)
    model.eval()
    return {key: x for key, x in maps.items() if key == "out" or key.startswith("aux")}


def silence(model: SegmentationModel, groups: Sequence[ChannelGroup], rows: Sequence[Any]) -> None:
    """Make channels zero by what puts them out. What uses them stays, so that a mistake would be heard, but so small
    that any measure of importance knows them for the least."""
    state = model.state_dict()
    for group, chosen in zip(groups, rows, strict=True):
        for column, (tensor, dim) in enumerate(group.axes):
            layer = model.get_submodule(tensor.rpartition(".")[0])
            weight, places = state[tensor], torch.from_numpy(group.indices[chosen, column])
            if tensor.rpartition(".")[2] in ("running_mean", "running_var"):
                continue
            if weight.ndim == 1 or dim == int(isinstance(layer, nn.ConvTranspose2d)):
                weight.index_fill_(dim, places, 0.0)
            else:
                weight.index_copy_(dim, places, weight.index_select(dim, places) * 1e-3)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert set(ours) == set(theirs)
    for key in ours:
        assert ours[key].std() > 1e-3, "logits that say nothing prove nothing"
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-9, atol=1e-9)
