"""Training on with the rounding of int8 in place, for networks that lose too much when it comes after training.

The network rounds where its int8 file will: weights to one scale per channel, the inputs of convolutions and outputs
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

from ..core.errors import ConfigError
from ..core.types import ClassSet, ImageArray
from ..exporting.onnx import export_onnx
from ..models.base import SegmentationModel
from ..models.session import describe, evaluating
from .graph import FloatGraph, NormalizedImage
from .plan import Plan, plan
from .qdq import calibrate
from .ranges import METHOD, Histogram, check_method, step

Step = tuple[float, int, int, int]
"""Scale, zero point, smallest and largest code of an activation."""


class _Rounded:
    """Base of layers that round; `input_step` and `output_step` are None where nothing is rounded."""

    input_step: Step | None = None
    output_step: Step | None = None
    shared: bool = False
    image: NormalizedImage | None = None
    plain_class: type[nn.Module]


class _RoundedConv(_Rounded, nn.Conv2d):
    """A convolution of rounded inputs and weights. `image` is what it reads if bytes stand for that in the file."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve maps (B, C, h, w)."""
        inputs = _rounded(x, self.input_step)
        if self.shared:
            # Others that read the tensor, such as the sum round a residual block, read it rounded too.
            x.data.copy_(inputs.detach())
        weight, bias = self.weight.float(), self.bias
        if self.image is None:
            rounded = _rounded_weight(weight)
        else:
            rounded, rest, share = _rounded_for_bytes(weight, self.image)
            inputs = inputs - rest.to(inputs.dtype)  # so that padding stands for the byte that it is in the file
            bias = share if bias is None else bias + share
        y = self._conv_forward(inputs, rounded.to(self.weight.dtype), bias)
        return _rounded(y, self.output_step)


class _RoundedNorm(_Rounded, nn.BatchNorm2d):
    """A batch norm of rounded outputs: in the file it is part of the convolution before it."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps (B, C, h, w)."""
        return _rounded(super().forward(x), self.output_step)


def _rounded(x: Tensor, step: Step | None) -> Tensor:
    if step is None or x.is_meta:  # without values, as when operations are counted
        return x
    return torch.fake_quantize_per_tensor_affine(x.float(), *step).to(x.dtype)


def _rounded_weight(weight: Tensor) -> Tensor:
    if weight.is_meta:
        return weight
    scale = (weight.detach().abs().amax(dim=(1, 2, 3)) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    zeros = torch.zeros_like(scale, dtype=torch.int32)
    rounded: Tensor = torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -127, 127)
    return rounded


def _rounded_for_bytes(weight: Tensor, image: NormalizedImage) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights as rounding those for bytes leaves them, what the padding's byte really is, and what it adds.

    The file computes with bytes less that one, and its bias has what that one gives by the weights before they were
    rounded; see :mod:`.qdq`.
    """
    scale, rest = (torch.tensor(values).to(weight).view(3, 1, 1) for values in (image.scale * 255, image.rest))
    ours = _rounded_weight(weight * scale) / scale
    return ours, rest, (weight * rest).sum(dim=(1, 2, 3))


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
    image = whole.graph.normalized_image()
    normalized = None if image is None else image.name
    followers = _norms_after_convolutions(model)
    found = []
    for name, node in whole.layers.items():
        conv = modules.get(name)
        if type(conv) is not nn.Conv2d:
            continue  # a transposed convolution, or a weight that code of the network's own reads
        norm = followers.get(conv)
        source = node.input[0]
        end = _step(whole, histograms, method, whole.graph.end(node)) if _ends_bare(whole, node) else None
        rounded = _swap(conv, _RoundedConv)
        rounded.input_step = _step(whole, histograms, method, source)
        rounded.output_step = None if norm else end
        rounded.image = whole.image if whole.image is not None and whole.image.name == source else None
        # Not the image itself, which belongs to the caller.
        rounded.shared = len(whole.graph.readers[source]) > 1 and source != normalized
        # Norms of other classes have an activation of their own, or are left out of this.
        if type(norm) is nn.BatchNorm2d and end is not None:
            _swap(norm, _RoundedNorm).output_step = end
        found.append(name)
    return found


def plain(model: nn.Module) -> None:
    """Let no layer of a network round any more, in place; weights stay as they were trained."""
    for module in model.modules():
        if isinstance(module, _Rounded):
            kind = module.plain_class
            for attribute in ("input_step", "output_step", "shared", "image", "plain_class"):
                vars(module).pop(attribute, None)
            cast(nn.Module, module).__class__ = kind


def _swap(module: nn.Module, kind: type[_Rounded]) -> _Rounded:
    rounded = cast(Any, module)
    rounded.plain_class = type(module)
    rounded.__class__ = kind
    return cast(_Rounded, rounded)


def _ends_bare(whole: Plan, node: Any) -> bool:
    """Return whether a layer's own output is rounded, no activation having followed it."""
    end = whole.graph.end(node)
    return bool(end == node.output[0]) and end in whole.roots


def _step(whole: Plan, histograms: dict[str, Histogram], method: str, tensor: str) -> Step | None:
    """Return how a tensor is rounded, None if it is not: bytes of the image are what they are."""
    if tensor not in whole.roots or (whole.image is not None and tensor == whole.image.name):
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
