"""Names and shapes of tensors that other people's networks have, written down from their code.

They are facts only: which tensors a published file holds, not what its network does with them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

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


# BiSeNetV2: CoinCheung/BiSeNet lib/models/bisenetv2.py


def _gather_expand(t: Tensors, name: str, inputs: int, outputs: int, stride: int) -> None:
    wide = 6 * inputs
    t.unit(f"{name}.conv1", inputs, inputs, 3)
    if stride == 1:
        t.chain(f"{name}.dwconv", (inputs, wide, 3, inputs), wide)
    else:
        t.chain(f"{name}.dwconv1", (inputs, wide, 3, inputs), wide)
        t.chain(f"{name}.dwconv2", (wide, wide, 3, wide), wide)
        t.chain(f"{name}.shortcut", (inputs, inputs, 3, inputs), inputs, (inputs, outputs, 1), outputs)
    t.chain(f"{name}.conv2", (wide, outputs, 1), outputs)


def bisenetv2() -> Published:
    t = Tensors()
    for name, widths in {"S1": (3, 64, 64), "S2": (64, 64, 64, 64), "S3": (64, 128, 128, 128)}.items():
        for i, (a, b) in enumerate(pairwise(widths)):
            t.unit(f"detail.{name}.{i}", a, b, 3)
    for name, a, b, kernel in (("conv", 3, 16, 3), ("left.0", 16, 8, 1), ("left.1", 8, 16, 3), ("fuse", 32, 16, 3)):
        t.unit(f"segment.S1S2.{name}", a, b, kernel)
    for name, a, b, blocks in (("S3", 16, 32, 2), ("S4", 32, 64, 2), ("S5_4", 64, 128, 4)):
        for i in range(blocks):
            _gather_expand(t, f"segment.{name}.{i}", b if i else a, b, 1 if i else 2)
    t.norm("segment.S5_5.bn", 128)
    t.unit("segment.S5_5.conv_gap", 128, 128)
    t.unit("segment.S5_5.conv_last", 128, 128, 3)
    for side in ("left1", "right2"):
        t.chain(f"bga.{side}", (128, 128, 3, 128), 128, (128, 128, 1))
    for side in ("left2", "right1", "conv"):
        t.chain(f"bga.{side}", (128, 128, 3), 128)
    t.unit("head.conv", 128, 1024, 3)
    t.conv("head.conv_out.1", 1024, 19, bias=True)
    for name, inputs, factor in (("aux2", 16, 4), ("aux3", 32, 8), ("aux4", 64, 16), ("aux5_4", 128, 32)):
        t.unit(f"{name}.conv", inputs, 128, 3)
        t.unit(f"{name}.conv_out.0.1", 128, factor**2, 3)
        t.conv(f"{name}.conv_out.1", factor**2, 19, bias=True)
    return t


# STDC: MichaelFan01/STDC-Seg nets/stdcnet.py and models/model_stages.py


def _stdc_features(t: Tensors, name: str, layers: tuple[int, int, int]) -> list[int]:
    """Add a backbone's numbered layers; return the number that each stage begins with, and their count."""
    t.unit(f"{name}.0", 3, 32, 3)
    t.unit(f"{name}.1", 32, 64, 3)
    starts, place, inputs = [0, 1], 2, 64
    for blocks, outputs in zip(layers, (256, 512, 1024), strict=True):
        starts.append(place)
        for i in range(blocks):
            block = f"{name}.{place}"
            t.unit(f"{block}.conv_list.0", inputs, outputs // 2)
            for j, (a, b) in enumerate([(2, 4), (4, 8), (8, 8)], 1):
                t.unit(f"{block}.conv_list.{j}", outputs // a, outputs // b, 3)
            if i == 0:
                t.chain(f"{block}.avd_layer", (outputs // 2, outputs // 2, 3, outputs // 2), outputs // 2)
            inputs = outputs
            place += 1
    return [*starts, place]


def _stdc_backbone(t: Tensors, name: str, layers: tuple[int, int, int]) -> None:
    starts = _stdc_features(t, f"{name}.features", layers)
    for stage, (start, end) in enumerate(pairwise(starts)):
        part = tuple(f"{name}.features.{i}." for i in range(start, end))
        for key in [key for key in t if key.startswith(part)]:
            place, rest = key.removeprefix(f"{name}.features.").split(".", 1)
            t.add(f"{name}.x{2 << stage}.0.{int(place) - start}.{rest}", *t[key].shape)
    t.unit(f"{name}.conv_last", 1024, 1024)


def stdc(layers: tuple[int, int, int]) -> Published:
    t = Tensors()
    _stdc_backbone(t, "cp.backbone", layers)
    t.add("cp.backbone.fc.weight", 1024, 1024)
    t.norm("cp.backbone.bn", 1024)
    t.add("cp.backbone.linear.weight", 1000, 1024)

    def unit(name: str, inputs: int, outputs: int, kernel: int = 1) -> None:
        t.conv(f"{name}.conv", inputs, outputs, kernel)
        t.norm(f"{name}.bn", outputs, counts=False)

    for stride, inputs in ((16, 512), (32, 1024)):
        unit(f"cp.arm{stride}.conv", inputs, 128, 3)
        t.conv(f"cp.arm{stride}.conv_atten", 128, 128)
        t.norm(f"cp.arm{stride}.bn_atten", 128, counts=False)
        unit(f"cp.conv_head{stride}", 128, 128, 3)
    unit("cp.conv_avg", 1024, 128)
    unit("ffm.convblk", 384, 256)
    t.conv("ffm.conv1", 256, 64)
    t.conv("ffm.conv2", 64, 256)
    for name, inputs, width, classes in (
        ("conv_out", 256, 256, 19),
        ("conv_out16", 128, 64, 19),
        ("conv_out32", 128, 64, 19),
        ("conv_out_sp16", 512, 64, 1),
        ("conv_out_sp8", 256, 64, 1),
        ("conv_out_sp4", 64, 64, 1),
        ("conv_out_sp2", 32, 64, 1),
    ):
        unit(f"{name}.conv", inputs, width, 3)
        t.conv(f"{name}.conv_out", width, classes)
    return t


# PP-LiteSeg: PaddlePaddle/PaddleSeg paddleseg/models/pp_liteseg.py


def pp_liteseg(layers: tuple[int, int, int], widths: tuple[int, int, int], heads: tuple[int, int, int]) -> Published:
    t = Tensors()
    _stdc_backbone(t, "backbone", layers)

    def unit(name: str, inputs: int, outputs: int, kernel: int = 3, *, bias: bool = False) -> None:
        t.conv(f"{name}._conv", inputs, outputs, kernel, bias=bias)
        t.norm(f"{name}._batch_norm", outputs)

    for i in range(3):
        unit(f"ppseg_head.cm.stages.{i}.1", 1024, 128, 1, bias=True)
    unit("ppseg_head.cm.conv_out", 128, 128, bias=True)
    for i, (low, high, outputs) in enumerate(zip((256, 512, 1024), (*widths[1:], 128), widths, strict=True)):
        arm = f"ppseg_head.arm_list.{i}"
        unit(f"{arm}.conv_x", low, high)
        unit(f"{arm}.conv_out", high, outputs)
        unit(f"{arm}.conv_xy_atten.0", 4, 2)
        unit(f"{arm}.conv_xy_atten.1", 2, 1)
        t.add(f"{arm}._scale", 1)
    for i, (inputs, width) in enumerate(zip(widths, heads, strict=True)):
        unit(f"seg_heads.{i}.conv", inputs, width)
        t.conv(f"seg_heads.{i}.conv_out", width, 19)
    paddle = {"running_mean": "_mean", "running_var": "_variance"}
    named = ((name.rpartition("."), x) for name, x in t.items() if not name.endswith("num_batches_tracked"))
    return Tensors({f"{layer}.{paddle.get(part, part)}": x for (layer, _, part), x in named})


# Fast-SCNN: zh320/realtime-semantic-segmentation-pytorch models/fastscnn.py


def fast_scnn() -> Published:
    t = Tensors()

    def pointwise(name: str, inputs: int, outputs: int) -> None:
        t.conv(f"{name}.0", inputs, outputs, bias=True)
        t.norm(f"{name}.1", outputs)

    def separable(name: str, inputs: int, outputs: int) -> None:
        t.chain(f"{name}.0", (inputs, inputs, 3, inputs), inputs)
        pointwise(f"{name}.1", inputs, outputs)

    t.chain("learning_to_downsample.0", (3, 32, 3), 32)
    separable("learning_to_downsample.1", 32, 48)
    separable("learning_to_downsample.2", 48, 64)
    extractor = "global_feature_extractor"
    for i, (a, b) in enumerate(pairwise([64, 64, 64, 64, 96, 96, 128, 128, 128])):
        block = f"{extractor}.bottlenecks.{i}.conv"
        pointwise(f"{block}.0", a, 6 * a)
        t.chain(f"{block}.1", (6 * a, 6 * a, 3, 6 * a), 6 * a)
        t.chain(f"{block}.2", (6 * a, b, 1), b)
    for i in range(1, 5):
        t.conv(f"{extractor}.ppm.stage{i}.1", 128, 32)
    pointwise(f"{extractor}.ppm.conv", 256, 128)
    t.conv("feature_fusion.higher_res_conv", 64, 128)
    t.chain("feature_fusion.lower_res_conv.0", (128, 128, 3, 128), 128)
    t.conv("feature_fusion.lower_res_conv.1", 128, 128)
    t.norm("feature_fusion.non_linear.0", 128)
    separable("classifier.0", 128, 128)
    separable("classifier.1", 128, 128)
    pointwise("classifier.2", 128, 19)
    return t


# RegSeg: RolandGao/RegSeg blocks.py and model.py


def _dblock(t: Tensors, name: str, inputs: int, outputs: int, group: int, *, splits: int = 1) -> None:
    for i in (1, 3):
        t.conv(f"{name}.conv{i}", inputs if i == 1 else outputs, outputs)
    for i in (1, 2, 3):
        t.norm(f"{name}.bn{i}", outputs)
    width = outputs // splits
    for i in range(splits):
        conv = f"{name}.conv2" if splits == 1 else f"{name}.conv2.convs.{i}"
        t.conv(conv, width, width, 3, groups=width // group)
    t.conv(f"{name}.se.conv1", outputs, inputs // 4, bias=True)
    t.conv(f"{name}.se.conv2", inputs // 4, outputs, bias=True)


def regseg(group: int, widths: tuple[int, ...], blocks: tuple[int, int], decoder: tuple[int, int, int]) -> Published:
    t = Tensors()
    t.unit("stem", 3, 32, 3)
    c4, c8, c16, last = widths
    stages = {
        "stage4": [(32, c4, 1), *[(c4, c4, 1)] * (blocks[0] - 1)],
        "stage8": [(c4, c8, 1), *[(c8, c8, 1)] * (blocks[1] - 1)],
        "stage16": [(c8, c16, 1), (c16, c16, 1), *[(c16, c16, 2)] * 11, (c16, last, 2)],
    }
    for stage, layers in stages.items():
        for i, (inputs, outputs, splits) in enumerate(layers):
            name = f"body.{stage}" + ("" if len(layers) == 1 else f".{i}")
            _dblock(t, name, inputs, outputs, group, splits=splits)
            if i == 0 or inputs != outputs:
                t.unit(f"{name}.shortcut", inputs, outputs)
    wide, narrow, fused = decoder
    for name, inputs, outputs, kernel in (
        ("head16", last, wide, 1),
        ("head8", c8, wide, 1),
        ("head4", c4, narrow, 1),
        ("conv8", wide, fused, 3),
        ("conv4", fused + narrow, fused, 3),
    ):
        t.unit(f"decoder.{name}", inputs, outputs, kernel)
    t.conv("decoder.classifier", fused, 19, bias=True)
    return t


PUBLISHED: dict[tuple[str, str], tuple[dict[str, object], Callable[[], Published]]] = {
    ("ddrnet", "23_slim"): ({"size": "23_slim"}, lambda: ddrnet(32, 64)),
    ("ddrnet", "23"): ({"size": "23"}, lambda: ddrnet(64, 128)),
    ("pidnet", "s"): ({"size": "s"}, lambda: pidnet(32)),
    ("pidnet", "m"): ({"size": "m"}, lambda: pidnet(64)),
    ("bisenetv2", "cityscapes"): ({}, bisenetv2),
    ("stdc", "1"): ({"backbone": 1}, lambda: stdc((2, 2, 2))),
    ("stdc", "2"): ({"backbone": 2}, lambda: stdc((4, 5, 3))),
    ("pp_liteseg", "t"): ({"backbone": 1}, lambda: pp_liteseg((2, 2, 2), (32, 64, 128), (32, 64, 64))),
    ("pp_liteseg", "b"): ({"backbone": 2}, lambda: pp_liteseg((4, 5, 3), (64, 96, 128), (64, 64, 64))),
    ("fast_scnn", "cityscapes"): ({}, fast_scnn),
    ("regseg", "base"): ({"size": "base"}, lambda: regseg(16, (48, 128, 256, 320), (1, 3), (128, 8, 64))),
    ("regseg", "large"): ({"size": "large"}, lambda: regseg(24, (48, 120, 336, 384), (2, 6), (256, 16, 128))),
}
"""Options and tensors by network and form; 19 classes each."""
