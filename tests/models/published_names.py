"""Names and shapes of tensors that other people's networks have, written down from their code.

They are facts only: which tensors a published file holds, not what its network does with them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Published = dict[str, Tensor]


class Tensors(Published):
    """Tensors of a published file, on no device, added layer by layer."""

    def add(self, name: str, *shape: int) -> None:
        assert name not in self
        self[name] = torch.empty(shape, device="meta")

    def conv(
        self, name: str, inputs: int, outputs: int, kernel: int = 1, *, groups: int = 1, bias: bool = False
    ) -> None:
        self.add(f"{name}.weight", outputs, inputs // groups, kernel, kernel)
        if bias:
            self.add(f"{name}.bias", outputs)

    def norm(self, name: str, channels: int, *, counts: bool = True) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.add(f"{name}.{part}", channels)
        if counts:
            self.add(f"{name}.num_batches_tracked")

    def unit(
        self, name: str, inputs: int, outputs: int, kernel: int = 1, *, parts: str = "conv bn", groups: int = 1
    ) -> None:
        """A convolution and its batch norm, whose names within `name` are `parts`."""
        conv, norm = parts.split()
        self.conv(f"{name}.{conv}", inputs, outputs, kernel, groups=groups)
        self.norm(f"{name}.{norm}", outputs)

    def chain(self, name: str, *layers: tuple[int, ...] | int | None, first: int = 0) -> None:
        """Numbered layers: (inputs, outputs, kernel) of a convolution, channels of a batch norm, None for others."""
        for place, layer in enumerate(layers, first):
            if isinstance(layer, int):
                self.norm(f"{name}.{place}", layer)
            elif layer is not None:
                inputs, outputs, kernel, *groups = layer
                self.conv(f"{name}.{place}", inputs, outputs, kernel, groups=groups[0] if groups else 1)


# DDRNet and PIDNet: ydhongHIT/DDRNet segmentation/DDRNet_23.py, XuJiacong/PIDNet models/pidnet.py


def _basic(t: Tensors, name: str, inputs: int, outputs: int, stride: int = 1) -> None:
    t.conv(f"{name}.conv1", inputs, outputs, 3)
    t.norm(f"{name}.bn1", outputs)
    t.conv(f"{name}.conv2", outputs, outputs, 3)
    t.norm(f"{name}.bn2", outputs)
    if stride > 1 or inputs != outputs:
        t.chain(f"{name}.downsample", (inputs, outputs, 1), outputs)


def _bottleneck(t: Tensors, name: str, inputs: int, width: int) -> None:
    for i, (a, b, kernel) in enumerate([(inputs, width, 1), (width, width, 3), (width, 2 * width, 1)], 1):
        t.conv(f"{name}.conv{i}", a, b, kernel)
        t.norm(f"{name}.bn{i}", b)
    if inputs != 2 * width:
        t.chain(f"{name}.downsample", (inputs, 2 * width, 1), 2 * width)


def _layer(t: Tensors, name: str, inputs: int, outputs: int, blocks: int, stride: int = 1) -> None:
    for i in range(blocks):
        _basic(t, f"{name}.{i}", outputs if i else inputs, outputs, 1 if i else stride)


def _head(t: Tensors, name: str, inputs: int, width: int, classes: int) -> None:
    t.norm(f"{name}.bn1", inputs)
    t.conv(f"{name}.conv1", inputs, width, 3)
    t.norm(f"{name}.bn2", width)
    t.conv(f"{name}.conv2", width, classes, bias=True)


def _two_branches(t: Tensors, c: int, blocks: tuple[int, int], context: int) -> None:
    t.conv("conv1.0", 3, c, 3, bias=True)
    t.norm("conv1.1", c)
    t.conv("conv1.3", c, c, 3, bias=True)
    t.norm("conv1.4", c)
    _layer(t, "layer1", c, c, blocks[0])
    _layer(t, "layer2", c, 2 * c, blocks[0], 2)
    _layer(t, "layer3", 2 * c, 4 * c, blocks[1], 2)
    _layer(t, "layer4", 4 * c, 8 * c, blocks[1], 2)
    t.chain("compression3", (4 * c, 2 * c, 1), 2 * c)
    t.chain("compression4", (8 * c, 2 * c, 1), 2 * c)
    _layer(t, "layer3_", 2 * c, 2 * c, blocks[0])
    _layer(t, "layer4_", 2 * c, 2 * c, blocks[0])
    _bottleneck(t, "layer5_.0", 2 * c, 2 * c)
    _bottleneck(t, "layer5.0", 8 * c, 8 * c)
    t.chain("spp.scale0", 16 * c, None, (16 * c, context, 1))
    for i in range(1, 5):
        t.chain(f"spp.scale{i}", None, 16 * c, None, (16 * c, context, 1))
    t.chain("spp.compression", 5 * context, None, (5 * context, 4 * c, 1))
    t.chain("spp.shortcut", 16 * c, None, (16 * c, 4 * c, 1))


def ddrnet(c: int, head: int) -> Published:
    t = Tensors()
    _two_branches(t, c, (2, 2), 128)
    t.chain("down3", (2 * c, 4 * c, 3), 4 * c)
    t.chain("down4", (2 * c, 4 * c, 3), 4 * c, None, (4 * c, 8 * c, 3), 8 * c)
    for i in range(1, 5):
        t.chain(f"spp.process{i}", 128, None, (128, 128, 3))
    _head(t, "seghead_extra", 2 * c, head, 19)
    _head(t, "final_layer", 4 * c, head, 19)
    trained = Tensors({f"model.{name}": x for name, x in t.items()})
    trained.add("loss.criterion.weight", 19)
    return trained


def pidnet(c: int) -> Published:
    t = Tensors()
    _two_branches(t, c, (2, 3), 96)
    _bottleneck(t, "layer5.1", 16 * c, 8 * c)
    for pag in ("pag3", "pag4"):
        for side in ("f_x", "f_y"):
            t.chain(f"{pag}.{side}", (2 * c, c, 1), c)
    _basic(t, "layer3_d", 2 * c, c)
    _bottleneck(t, "layer4_d.0", c, c)
    _bottleneck(t, "layer5_d.0", 2 * c, 2 * c)
    t.chain("diff3", (4 * c, c, 3), c)
    t.chain("diff4", (8 * c, 2 * c, 3), 2 * c)
    t.chain("spp.scale_process", 384, None, (384, 384, 3, 4))
    for side in ("conv_p", "conv_i"):
        t.chain(f"dfm.{side}", (4 * c, 4 * c, 1), 4 * c)
    _head(t, "seghead_p", 2 * c, 128, 19)
    _head(t, "seghead_d", 2 * c, c, 1)
    _head(t, "final_layer", 4 * c, 128, 19)
    return Tensors({f"model.{name}": x for name, x in t.items()})


PUBLISHED: dict[tuple[str, str], tuple[dict[str, object], Callable[[], Published]]] = {
    ("ddrnet", "23_slim"): ({"size": "23_slim"}, lambda: ddrnet(32, 64)),
    ("ddrnet", "23"): ({"size": "23"}, lambda: ddrnet(64, 128)),
    ("pidnet", "s"): ({"size": "s"}, lambda: pidnet(32)),
    ("pidnet", "m"): ({"size": "m"}, lambda: pidnet(64)),
}
"""Options and tensors by network and form; 19 classes each."""
