from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pruning_cases import CLASSES, Convolution, build, halved
from torch import Tensor, nn

from conftest import VARIANTS
from featherseg.compress.prune import PruneResult, prune
from featherseg.core.errors import ConfigError
from featherseg.core.recipes import config_from_dict, config_to_toml, load_config
from featherseg.models.base import SegmentationModel
from featherseg.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from featherseg.models.factory import create_model, list_models
from featherseg.models.facts import count_gmacs, count_parameters
from featherseg.models.session import describe
from featherseg.models.widths import widths
from featherseg.training.supervised import Supervised


@pytest.fixture
def pair(variant: str) -> tuple[SegmentationModel, PruneResult]:
    return halved(variant)


# What a pruned network is


class UpsampledLoss(nn.Module):
    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(F.interpolate(x, size=target.shape[-2:], mode="bilinear"), target)


@pytest.mark.parametrize("size", [(97, 65), (64, 64), (33, 17)])
def test_shapes_are_those_of_the_whole_network(
    pair: tuple[SegmentationModel, PruneResult], size: tuple[int, int]
) -> None:
    whole, pruned = pair[0].eval(), pair[1].model.eval()
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        ours, theirs = pruned.outputs(image), whole.outputs(image)
        assert pruned(image).shape == (2, len(CLASSES), *size)
    assert set(ours) == set(theirs)
    for key in ours:
        assert ours[key].isfinite().all()
        assert ours[key].shape[-2:] == theirs[key].shape[-2:]
        assert ours[key].shape[1] <= theirs[key].shape[1]
    assert ours["out"].shape == theirs["out"].shape
    assert type(pruned) is type(whole)
    assert (pruned.name, pruned.stride, pruned.input_spec) == (whole.name, whole.stride, whole.input_spec)


def test_figures_are_true(pair: tuple[SegmentationModel, PruneResult]) -> None:
    model, result = pair
    assert (result.params_before, result.params_after) == (
        sum(p.numel() for p in model.parameters()),
        sum(p.numel() for p in result.model.parameters()),
    )
    # Networks of grouped convolutions, which stay whole, lose less than a half.
    assert 0.2 < result.params_after / result.params_before < 0.65
    assert result.gmacs_before == count_gmacs(model, (64, 96))
    assert result.gmacs_after == count_gmacs(result.model, (64, 96)) < 0.65 * result.gmacs_before
    changed = {}
    for layer_name, layer in result.model.named_modules():
        old = dict(model.named_modules())[layer_name]
        if isinstance(layer, Convolution):
            dim = int(isinstance(layer, nn.ConvTranspose2d))
            assert layer.out_channels == layer.weight.shape[dim]
            assert layer.in_channels == layer.weight.shape[1 - dim] * layer.groups
            assert layer.groups in (1, layer.out_channels, old.groups)
            if layer.groups == 1 and layer.out_channels != old.out_channels:
                changed[layer_name] = (old.out_channels, layer.out_channels)
                # Some channels of a layer may be tied to ones that are kept, such as the image's.
                assert layer.out_channels % 8 == 0 or re.match(r"\d+ of ", result.kept[layer_name])
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.num_features == len(layer.weight) == len(layer.running_mean)
    assert changed == result.plan
    assert result.model.options["pruned"] == {layer: after for layer, (_, after) in result.plan.items()}
    said = str(result).splitlines()
    assert set(said) >= {f"{layer}: {before} → {after}" for layer, (before, after) in result.plan.items()}
    assert f"parameters {result.params_before:,} → {result.params_after:,}" in said[-1]
    assert json.loads(json.dumps(result.to_dict()))["params_after"] == result.params_after


def test_every_layer_is_pruned_or_said_to_be_kept(pair: tuple[SegmentationModel, PruneResult]) -> None:
    model, result = pair
    unsaid = set(widths(model)) - set(result.plan) - set(result.kept)
    assert not unsaid
    assert all(re.match(r"\d+ of \d+: ", result.kept[layer]) for layer in set(result.plan) & set(result.kept))
    heads = {layer for layer, reason in result.kept.items() if "classes of 'out'" in reason}
    assert heads <= {name for name, width in widths(model).items() if width == len(CLASSES)}
    assert heads
    for layer in result.kept:
        assert layer in str(result)


def test_the_whole_network_is_left_alone(variant: str) -> None:
    model, _ = halved(variant)
    fresh = build(variant)
    assert model.options == fresh.options
    for ours, theirs in zip(model.state_dict().values(), fresh.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_every_parameter_learns(pair: tuple[SegmentationModel, PruneResult]) -> None:
    model = copy.deepcopy(pair[1].model).train()
    objective = Supervised(model, UpsampledLoss(), UpsampledLoss())
    torch.manual_seed(0)
    batch: Any = {"image": torch.randn(2, 3, 97, 65), "mask": torch.randint(0, 5, (2, 97, 65))}
    objective(batch)["loss"].backward()
    for key, parameter in model.named_parameters():
        assert parameter.requires_grad, key
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.ndim == 1 or parameter.grad.any(), key
    assert {id(p) for p in model.encoder_parameters()} <= {id(p) for p in model.parameters()}


def test_a_checkpoint_rebuilds_it_bit_by_bit(pair: tuple[SegmentationModel, PruneResult], tmp_path: Path) -> None:
    pruned = pair[1].model
    back = load_checkpoint(save_checkpoint(tmp_path / "x.safetensors", Checkpoint(pruned, CLASSES))).model
    assert type(back) is type(pruned)
    assert back.options == pruned.options
    ours, theirs = pruned.state_dict(), back.state_dict()
    assert list(ours) == list(theirs)
    for key in ours:
        assert torch.equal(ours[key], theirs[key]), key
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(back(image), pruned.eval()(image), rtol=0, atol=0)


def test_a_recipe_rebuilds_it(pair: tuple[SegmentationModel, PruneResult], tmp_path: Path) -> None:
    pruned = pair[1].model
    config = config_from_dict({"model": {"name": pruned.name, "options": pruned.options}})
    (tmp_path / "r.toml").write_text(config_to_toml(config))
    back = load_config(tmp_path / "r.toml").model
    assert back.options == pruned.options
    twin = create_model(back.name, len(CLASSES), **back.options)
    assert [x.shape for x in twin.state_dict().values()] == [x.shape for x in pruned.state_dict().values()]
    assert all(p.requires_grad for p in twin.parameters())


QUICK_EXPORTS = {"jetnet"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK_EXPORTS else pytest.mark.slow) for n in (*list_models(), *VARIANTS)]
)
def test_onnx_does_what_torch_does(name: str, tmp_path: Path) -> None:
    from featherseg.exporting.onnx import export_onnx
    from featherseg.runtime.sessions.base import open_session

    pruned = halved(name)[1].model.eval()
    # Larger than some networks' last stride: torch takes a side of one for a constant.
    path = export_onnx(pruned, tmp_path / "x.onnx", describe(pruned, CLASSES), example_size=(128, 192))
    session = open_session(path, threads=1)
    for size in ((64, 96), (97, 131)):
        images = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
        image = torch.from_numpy(pruned.input_spec.normalize(images[0]))[None]
        with torch.no_grad():
            expected = pruned.outputs(image)["out"].numpy()
        np.testing.assert_allclose(session.run(images), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_pruned_twice(variant: str) -> None:
    model, once = halved(variant)
    twice = prune(once.model, 0.4, example_size=(64, 96))
    assert twice.params_before == once.params_after > twice.params_after
    assert all(before == once.model.options["pruned"].get(layer, before) for layer, (before, _) in twice.plan.items())
    assert twice.model.options["pruned"] == once.model.options["pruned"] | {k: v[1] for k, v in twice.plan.items()}
    twin = create_model(model.name, len(CLASSES), **twice.model.options)
    twin.load_state_dict(twice.model.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(twin.eval()(image), twice.model.eval()(image), rtol=0, atol=0)


def test_a_run_trains_it_on(trained: Any, tmp_path: Path) -> None:
    from featherseg.training.fit import fit

    start = load_checkpoint(trained.run)
    result = prune(start.model, 0.4, example_size=(64, 96))
    init = save_checkpoint(tmp_path / "pruned.safetensors", Checkpoint(result.model, start.classes))
    config = config_from_dict(
        {
            "name": "on",
            "out": str(tmp_path),
            "model": {"name": "jetnet", "options": result.model.options, "init": str(init)},
            "data": {"name": "synthetic", "options": {"count": 4, "val_count": 2, "size": [64, 96]}, "workers": 0},
            "augment": {"crop": [64, 96]},
            "distill": {"teacher": str(trained.run)},
            "train": {"epochs": 1, "precision": "fp32", "device": "cpu"},
        }
    )
    run = fit(config, quiet=True).path
    model = load_checkpoint(run).model
    assert model.options == result.model.options
    assert count_parameters(model)[0] == result.params_after


# How much, and of what


@pytest.mark.slow
def test_targets_are_met_with_the_least() -> None:
    model, _ = halved("fastsegnet")
    for ranking in ("uniform", "global"):
        result = prune(model, target_gmacs=0.03, example_size=(128, 128), ranking=ranking)
        assert 0.0293 < result.gmacs_after <= 0.03 < result.gmacs_before
    result = prune(model, target_params=400_000, example_size=(64, 64))
    assert 396_000 < result.params_after <= 400_000
    assert result.latency_ms_after is None


def test_a_time_is_searched_by_measuring() -> None:
    model, _ = halved("jetnet")
    tried = []

    def measure(net: SegmentationModel) -> float:
        tried.append(count_parameters(net)[0])
        return tried[-1] / 1e4

    result = prune(model, target_latency_ms=8, measure=measure, example_size=(64, 64))
    assert tried[0] == result.params_before
    assert len(tried) < 10
    assert 7 < result.latency_ms_after == result.params_after / 1e4 <= 8
    assert result.latency_ms_before == tried[0] / 1e4
    assert result.summary().endswith(f"{result.latency_ms_before:.1f} → {result.latency_ms_after:.1f} ms (-45 %)")


def test_the_time_of_onnx_runtime_is_taken_by_default() -> None:
    model = halved("jetnet")[1].model
    with pytest.raises(ConfigError, match=r"target_latency_ms is 10000, but the network has .* as it is"):
        prune(model, target_latency_ms=10_000, example_size=(64, 64))


def test_the_least_important_channels_go() -> None:
    torch.manual_seed(0)
    model = create_model("jetnet", 5)
    weak = torch.arange(0, 128, 2)
    with torch.no_grad():
        model.down8[0].weight[weak] *= 0.01
        model.down8[1].weight[weak] *= 0.01
    for kind in ("l1", "l2", "bn"):
        result = prune(model, 0.5, importance=kind, ranking="uniform", example_size=(64, 64))
        assert result.plan["down8.0"] == (128, 64)
        torch.testing.assert_close(result.model.classifier.weight, model.classifier.weight[:, 1::2], rtol=0, atol=0)
        torch.testing.assert_close(result.model.down8[1].weight, torch.ones(64), rtol=0, atol=0)


def test_odd_multiples() -> None:
    model, _ = halved("jetnet")
    result = prune(model, 0.5, ranking="uniform", round_to=5, example_size=(64, 64))
    assert all(after % 5 == 0 for _, after in result.plan.values())
    exact = prune(model, 0.5, ranking="uniform", round_to=1, example_size=(64, 64))
    assert all(after == before // 2 for before, after in exact.plan.values())
    assert exact.ratio == 0.5


def test_protected_layers_stay() -> None:
    model, _ = halved("jetnet")
    result = prune(model, 0.5, ranking="uniform", protect=["stem.0", "down*.0"], example_size=(64, 64))
    assert set(result.plan) == {"stem.1.conv1.0", "stem.2.conv1.0"}
    # Tied to stem.0 by the identity skips.
    assert result.kept["stem.2.conv2.0"] == "they are protected by 'stem.0'"
    assert result.kept["down8.0"] == "they are protected by 'down*.0'"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ratio": 0}, "ratio is 0; give a share between 0 and 1"),
        ({"ratio": 1.0}, "ratio is 1.0"),
        ({"ratio": float("nan")}, "ratio is nan"),
        ({"ratio": "half"}, "ratio is 'half'"),
        ({"ratio": True}, "ratio is True"),
        ({"ratio": 0.01}, "removes nothing in steps of 8"),
        ({"ratio": 0.5, "target_params": 5}, "ratio and target_params are given; choose one"),
        ({"target_params": -5}, "target_params is -5; give a number over 0"),
        ({"target_gmacs": float("inf")}, "target_gmacs is inf"),
        ({"target_params": 10}, "target_params is 10, but "),
        ({"target_gmacs": 10}, "target_gmacs is 10, but the network has"),
        ({"importance": "l3"}, "importance is 'l3'; known: bn, l1, l2"),
        ({"ranking": "globl"}, "ranking is 'globl'; did you mean \"global\"?"),
        ({"round_to": 0}, "round_to is 0"),
        ({"round_to": 500}, "no channels to prune in steps of 500"),
        ({"example_size": (64, 32)}, "example_size is (64, 32)"),
        ({"example_size": (64,)}, "example_size is (64,)"),
        ({"protect": ["stm"]}, "protect names 'stm', which is no layer"),
        ({"protect": "stem"}, "protect is 'stem'; give a list"),
        ({"measure": lambda net: 1.0}, "measure is given, but ratio needs none"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as info:
        prune(halved("jetnet")[0], **{"example_size": (64, 64)} | arguments)
    assert words in str(info.value)
    assert "\n" not in str(info.value)
