"""A way round slow gradients: depthwise convolutions with a stride, in channels-last, on CPUs.

oneDNN, as torch 2.15 calls it, has no quick kernel for the gradient of their inputs in bf16: MobileNetV2's four took a
third of FastSegNet's whole backward pass. The same gradient is that of a convolution without stride whose output was
given zeros between its values, which oneDNN computes 2 to 24 times as fast; see docs/speed.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def quicken_strided_groups(module: nn.Module) -> int:
    """Let the depthwise convolutions in `module` that have a stride find the gradient of their inputs the quick way.

    They change their class and nothing else: names and values of weights stay, and so does what they compute.

    Returns:
        how many there are.
    """
    found = [each for each in module.modules() if type(each) is nn.Conv2d and is_slow(each)]
    for conv in found:
        conv.__class__ = _StridedDepthwise
    return len(found)


def is_slow(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is of the kind whose inputs' gradients are slow, and have the quick way."""
    same = tuple((side - 1) // 2 for side in conv.kernel_size)
    return (
        conv.groups == conv.in_channels == conv.out_channels > 1
        and max(conv.stride) > 1
        and max(conv.dilation) == 1
        and all(side % 2 for side in conv.kernel_size)
        and conv.padding == same
        and conv.padding_mode == "zeros"
        and conv.bias is None
    )


class _StridedDepthwise(nn.Conv2d):
    """A depthwise convolution with a stride, odd sides, as much padding as keeps the size, and no bias."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve maps (B, C, h, w)."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if not (torch.is_grad_enabled() and x.requires_grad and x.device.type == "cpu" and dtype == torch.bfloat16):
            return super().forward(x)  # in fp32 oneDNN's way is the quicker one
        y: Tensor = StridedConvolution.apply(x.to(dtype), self.weight.to(dtype), self.stride)
        return y


class StridedConvolution(Function):
    """The convolution of maps (B, C, h, w), whose backward pass is the quick one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
        """Convolve, with as much padding as keeps the size but for the stride."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, _padding(weight), 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of maps and weights."""
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, _padding(weight)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            spread = torch.zeros_like(x, dtype=upstream.dtype)
            spread[:, :, :: stride[0], :: stride[1]] = upstream
            of_x = F.conv2d(spread, weight.flip(2, 3), None, 1, padding, 1, len(weight))
        if ctx.needs_input_grad[1]:
            ways = list(stride), list(padding), [1, 1], False, [0, 0], len(weight)
            of_weight = torch.ops.aten.convolution_backward(upstream, x, weight, None, *ways, [False, True, False])[1]
        return of_x, of_weight, None


def _padding(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2
