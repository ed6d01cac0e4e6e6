"""Training on with the rounding of int8 in place, for networks that lose too much when it comes after training.

The network rounds where its int8 file will: weights to one scale a channel, the inputs of convolutions and the outputs
that no activation follows to ranges observed beforehand. Gradients pass the rounding as if it were not there, and stop
where a value was clipped (straight-through estimator, arXiv 1308.3432; as QAT in arXiv 1712.05877).

Layers change their class and nothing else: parameters, their names and the file format of weights stay, so the ordinary
trainer trains the network, and checkpoints of it are those of the plain one::

    fake_quantize(model, calibration_images(train_set))
    SegmentationTrainer(model=model, …).train()
    plain(model)
    # export, then quantize_onnx as ever
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..export.onnx import export_onnx
from ..models.base import SegmentationModel
from ..torch_session import describe, evaluating
from ..types import ClassSet, ImageArray
from .graph import FloatGraph
from .plan import Plan, plan
from .qdq import calibrate
from .ranges import METHOD, Histogram, check_method, step

Step = tuple[float, int, int, int]
"""Scale, zero point, smallest and largest code of an activation."""


class _Rounded:
    """Base of layers that round; `input_step` and `output_step` are None where nothing is rounded."""

    input_step: Step | None = None
    output_step: Step | None = None
    plain_class: type[nn.Module]


class _RoundedConv(_Rounded, nn.Conv2d):
    """A convolution of rounded inputs and weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve maps (B, C, h, w)."""
        weight = self.weight.float()
        scale = (weight.detach().abs().amax(dim=(1, 2, 3)) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        rounded = torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -127, 127)
        y = self._conv_forward(_rounded(x, self.input_step), rounded.to(self.weight.dtype), self.bias)
        return _rounded(y, self.output_step)


class _RoundedNorm(_Rounded, nn.BatchNorm2d):
    """A batch norm of rounded outputs: in the file it is part of the convolution before it."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps (B, C, h, w)."""
        return _rounded(super().forward(x), self.output_step)


def _rounded(x: Tensor, step: Step | None) -> Tensor:
    if step is None:
        return x
    return torch.fake_quantize_per_tensor_affine(x.float(), *step).to(x.dtype)


def fake_quantize(
    model: SegmentationModel, images: Sequence[ImageArray], *, flavour: str = "onnxruntime", method: str = METHOD
) -> list[str]:
    """Let a network round as its int8 file will, in place; :func:`plain` takes that back.

    Convolutions round; of other operators only the batch norms that end a layer do. Do not export it before it is
    plain again.

    Args:
        model: a trained network.
        images: to observe ranges on, RGB uint8 (H, W, 3) at the size it is trained at or deployed at.
        flavour: as for :func:`.qdq.quantize_onnx`.
        method: as there.

    Returns:
        Names of the modules that round.

    Raises:
        ConfigError: an argument is out of range, or the network rounds already.
        DataError: the images are too few, or random noise.
    """
    check_method(method)
    if any(isinstance(module, _Rounded) for module in model.modules()):
        raise ConfigError(f"{model.name or type(model).__name__} rounds already; take that back with plain() first")
    classes = ClassSet(tuple(f"class {i}" for i in range(model.num_classes)))
    with tempfile.TemporaryDirectory() as folder:
        file = export_onnx(model, Path(folder, "float.onnx"), describe(model, classes))
        whole = plan(FloatGraph(file), flavour)
        histograms = calibrate(whole, images)
    modules = dict(model.named_modules())
    followers = _norms_after_convolutions(model)
    found = []
    for name, node in whole.layers.items():
        conv = modules.get(name)
        if type(conv) is not nn.Conv2d:
            continue  # a transposed convolution, or a weight that code of the network's own reads
        norm = followers.get(conv)
        end = _step(whole, histograms, method, whole.graph.end(node)) if _ends_bare(whole, node) else None
        _swap(conv, _RoundedConv, _step(whole, histograms, method, node.input[0]), None if norm else end)
        # Norms of other classes have an activation of their own, or are left out of this.
        if type(norm) is nn.BatchNorm2d and end is not None:
            _swap(norm, _RoundedNorm, None, end)
        found.append(name)
    return found


def plain(model: nn.Module) -> None:
    """Let no layer of a network round any more, in place; weights stay as they were trained."""
    for module in model.modules():
        if isinstance(module, _Rounded):
            kind = module.plain_class
            for attribute in ("input_step", "output_step", "plain_class"):
                delattr(module, attribute)
            cast(nn.Module, module).__class__ = kind


def _swap(module: nn.Module, kind: type[_Rounded], input_step: Step | None, output_step: Step | None) -> None:
    rounded = cast(Any, module)
    rounded.plain_class = type(module)
    rounded.__class__ = kind
    rounded.input_step, rounded.output_step = input_step, output_step


def _ends_bare(whole: Plan, node: Any) -> bool:
    """Return whether a layer's own output is rounded, no activation having followed it."""
    end = whole.graph.end(node)
    return bool(end == node.output[0]) and end in whole.roots


def _step(whole: Plan, histograms: dict[str, Histogram], method: str, tensor: str) -> Step | None:
    """Return how a tensor is rounded, None if it is not."""
    if tensor not in whole.roots:
        return None
    symmetric = whole.flavour.symmetric
    scale, zero = step(histograms[whole.roots[tensor]].range(method, symmetric), symmetric)
    return (scale, zero, -127, 127) if symmetric else (scale, zero, 0, 255)


def _norms_after_convolutions(model: SegmentationModel) -> dict[nn.Module, nn.Module]:
    """Return the batch norm that reads each convolution's output, found by running the network once."""
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensors too: an id is free again when its tensor is gone
    found: dict[nn.Module, nn.Module] = {}

    def after_conv(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        made[id(output)] = module, output

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in made:
            found[made[id(inputs[0])][0]] = module

    handles = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(after_conv))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(before_norm))
    try:
        with torch.no_grad(), evaluating(model):
            model.outputs(torch.zeros(1, 3, 128, 128, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return found
