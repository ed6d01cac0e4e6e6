"""A way round wrong gradients: dilated convolutions of few channels per group, in bf16 and channels-last, on CPUs.

oneDNN, as torch 2.15 calls it, gives these convolutions' weights gradients that have nothing to do with the right ones,
or are not finite, and writes beside its memory at times. Outputs and the gradients of inputs are right, and so is all
in fp32, in torch's default layout, without dilation, and with many channels per group. The layers concerned therefore
compute in the default layout; what is round them stays channels-last.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SAFE_CHANNELS_PER_GROUP = 32
"""Groups of 1 and 2 channels were wrong in every trial, groups of 32 in none."""


def shield_dilated_groups(module: nn.Module) -> int:
    """Let the convolutions in `module` that channels-last gives wrong gradients compute in the default layout.

    Names and values of weights stay.

    Returns:
        how many there are.
    """
    found = [each for each in module.modules() if isinstance(each, nn.Conv2d) and is_affected(each)]
    for conv in found:
        # A weight alone in channels-last draws the whole layer there; of one channel it is both, but for its strides.
        conv.weight.data = conv.weight.data.clone(memory_format=torch.contiguous_format)
        conv.register_forward_pre_hook(_to_default)
        conv.register_forward_hook(_to_channels_last)
    return len(found)


def is_affected(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is of the kind whose weights' gradients are wrong."""
    return conv.groups > 1 and max(conv.dilation) > 1 and conv.in_channels // conv.groups < SAFE_CHANNELS_PER_GROUP


def _to_default(_: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
    return (args[0].contiguous(),)


def _to_channels_last(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.contiguous(memory_format=torch.channels_last)
