"""What published networks compute, from tensors by their own names: an oracle for our modules and converters.

Written from the papers and the code named in :mod:`published_names`, in functions, for sizes that are multiples of 64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from published_names import Published
from torch import Tensor

Forward = Callable[["Weights", Tensor], Tensor]


class Weights:
    """Layers of a published network, by name."""

    def __init__(self, tensors: Published) -> None:
        self.tensors = tensors

    def conv(self, x: Tensor, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = self.tensors[f"{name}.weight"]
        padding, groups = dilation * (weight.shape[-1] // 2), x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, self.tensors.get(f"{name}.bias"), stride, padding, dilation, groups)

    def norm(self, x: Tensor, name: str, *, absolute: bool = False) -> Tensor:
        mean = self.tensors.get(f"{name}.running_mean", self.tensors.get(f"{name}._mean"))
        var = self.tensors.get(f"{name}.running_var", self.tensors.get(f"{name}._variance"))
        assert mean is not None
        assert var is not None
        weight = self.tensors[f"{name}.weight"]
        return F.batch_norm(x, mean, var, weight.abs() + 1e-5 if absolute else weight, self.tensors[f"{name}.bias"])

    def unit(self, x: Tensor, name: str, stride: int = 1, parts: str = "conv bn", *, absolute: bool = False) -> Tensor:
        """Convolution, batch norm and ReLU."""
        conv, norm = parts.split()
        return F.relu(self.norm(self.conv(x, f"{name}.{conv}", stride), f"{name}.{norm}", absolute=absolute))

    def pair(self, x: Tensor, name: str, first: int = 0, stride: int = 1) -> Tensor:
        """Numbered convolution and batch norm."""
        return self.norm(self.conv(x, f"{name}.{first}", stride), f"{name}.{first + 1}")

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.tensors)


def _up(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear")


def _whole(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, x.shape[-2:])


# DDRNet and PIDNet, within a training's "model."


def _residual(w: Weights, x: Tensor, name: str, stride: int = 1) -> Tensor:
    wide = w.has(f"{name}.conv3")
    y = F.relu(w.norm(w.conv(x, f"{name}.conv1", 1 if wide else stride), f"{name}.bn1"))
    y = w.norm(w.conv(y, f"{name}.conv2", stride if wide else 1), f"{name}.bn2")
    if wide:
        y = w.norm(w.conv(F.relu(y), f"{name}.conv3"), f"{name}.bn3")
    return y + (w.pair(x, f"{name}.downsample", stride=stride) if w.has(f"{name}.downsample") else x)


def _layer(w: Weights, x: Tensor, name: str, stride: int = 1) -> Tensor:
    if not w.has(f"{name}.0"):
        return _residual(w, x, name, stride)
    x = _residual(w, x, f"{name}.0", stride)
    for i in range(1, 4):
        if w.has(f"{name}.{i}"):
            x = _residual(w, x if w.has(f"{name}.{i}.conv3") else F.relu(x), f"{name}.{i}")
    return x


def _pre(w: Weights, x: Tensor, name: str, first: int = 0) -> Tensor:
    return w.conv(F.relu(w.norm(x, f"{name}.{first}")), f"{name}.{first + 2}")


def _seghead(w: Weights, x: Tensor, name: str) -> Tensor:
    x = w.conv(F.relu(w.norm(x, f"{name}.bn1")), f"{name}.conv1")
    return w.conv(F.relu(w.norm(x, f"{name}.bn2")), f"{name}.conv2")


def _scales(w: Weights, x: Tensor) -> list[Tensor]:
    pools = [F.avg_pool2d(x, k, s, k // 2) for k, s in ((5, 2), (9, 4), (17, 8))] + [_whole(x)]
    grids = [_up(_pre(w, pool, f"model.spp.scale{i}", 1), x) for i, pool in enumerate(pools, 1)]
    return [_pre(w, x, "model.spp.scale0"), *grids]


def _stem(w: Weights, x: Tensor) -> Tensor:
    return F.relu(w.pair(F.relu(w.pair(x, "model.conv1", 0, 2)), "model.conv1", 3, 2))


def ddrnet(w: Weights, image: Tensor) -> Tensor:
    one = _layer(w, _stem(w, image), "model.layer1")
    two = _layer(w, F.relu(one), "model.layer2", 2)
    three = _layer(w, F.relu(two), "model.layer3", 2)
    fine = _layer(w, F.relu(two), "model.layer3_")
    deep = three + w.pair(F.relu(fine), "model.down3", stride=2)
    fine = fine + _up(w.pair(F.relu(three), "model.compression3"), fine)
    four = _layer(w, F.relu(deep), "model.layer4", 2)
    fine = _layer(w, F.relu(fine), "model.layer4_")
    down = F.relu(w.pair(F.relu(fine), "model.down4", stride=2))
    deep = four + w.pair(down, "model.down4", 3, stride=2)
    fine = fine + _up(w.pair(F.relu(four), "model.compression4"), fine)
    fine = _layer(w, F.relu(fine), "model.layer5_")
    x = _layer(w, F.relu(deep), "model.layer5", 2)
    first, *grids = _scales(w, x)
    maps = [first]
    for i, grid in enumerate(grids, 1):
        maps.append(_pre(w, grid + maps[-1], f"model.spp.process{i}"))
    x = _pre(w, torch.cat(maps, 1), "model.spp.compression") + _pre(w, x, "model.spp.shortcut")
    return _seghead(w, _up(x, fine) + fine, "model.final_layer")


def _pag(w: Weights, x: Tensor, y: Tensor, name: str) -> Tensor:
    alike = w.pair(x, f"{name}.f_x") * _up(w.pair(y, f"{name}.f_y"), x)
    share = torch.sigmoid(alike.sum(1, keepdim=True))
    return (1 - share) * x + share * _up(y, x)


def pidnet(w: Weights, image: Tensor) -> Tensor:
    x = F.relu(_layer(w, F.relu(_layer(w, _stem(w, image), "model.layer1")), "model.layer2", 2))
    p, d = _layer(w, x, "model.layer3_"), _layer(w, x, "model.layer3_d")
    x = F.relu(_layer(w, x, "model.layer3", 2))
    p = _pag(w, p, w.pair(x, "model.compression3"), "model.pag3")
    d = d + _up(w.pair(x, "model.diff3"), d)
    x = F.relu(_layer(w, x, "model.layer4", 2))
    p, d = _layer(w, F.relu(p), "model.layer4_"), _layer(w, F.relu(d), "model.layer4_d")
    p = _pag(w, p, w.pair(x, "model.compression4"), "model.pag4")
    d = d + _up(w.pair(x, "model.diff4"), d)
    p, d = _layer(w, F.relu(p), "model.layer5_"), _layer(w, F.relu(d), "model.layer5_d")
    x = _layer(w, x, "model.layer5", 2)
    first, *grids = _scales(w, x)
    mixed = _pre(w, torch.cat([grid + first for grid in grids], 1), "model.spp.scale_process")
    i = _pre(w, torch.cat([first, mixed], 1), "model.spp.compression") + _pre(w, x, "model.spp.shortcut")
    i, edge = _up(i, p), torch.sigmoid(d)
    fused = w.pair((1 - edge) * i + p, "model.dfm.conv_p") + w.pair(i + edge * p, "model.dfm.conv_i")
    return _seghead(w, fused, "model.final_layer")


# BiSeNetV2


def bisenetv2(w: Weights, image: Tensor) -> Tensor:
    detail = image
    for stage, units in (("S1", 2), ("S2", 3), ("S3", 3)):
        for i in range(units):
            detail = w.unit(detail, f"detail.{stage}.{i}", 1 if i else 2)
    x = w.unit(image, "segment.S1S2.conv", 2)
    left = w.unit(w.unit(x, "segment.S1S2.left.0"), "segment.S1S2.left.1", 2)
    x = w.unit(torch.cat([left, F.max_pool2d(x, 3, 2, 1)], 1), "segment.S1S2.fuse")
    for stage, blocks in (("S3", 2), ("S4", 2), ("S5_4", 4)):
        for i in range(blocks):
            name = f"segment.{stage}.{i}"
            y = w.unit(x, f"{name}.conv1")
            if i:
                y = F.relu(w.pair(y, f"{name}.dwconv"))
            else:
                y = F.relu(w.pair(w.pair(y, f"{name}.dwconv1", stride=2), f"{name}.dwconv2"))
                x = w.pair(w.pair(x, f"{name}.shortcut", stride=2), f"{name}.shortcut", 2)
            x = F.relu(w.pair(y, f"{name}.conv2") + x)
    x = w.unit(w.unit(w.norm(_whole(x), "segment.S5_5.bn"), "segment.S5_5.conv_gap") + x, "segment.S5_5.conv_last")
    left1 = w.conv(w.pair(detail, "bga.left1"), "bga.left1.2")
    left2 = F.avg_pool2d(w.pair(detail, "bga.left2", stride=2), 3, 2, 1)
    right2 = w.conv(w.pair(x, "bga.right2"), "bga.right2.2")
    left1 = left1 * torch.sigmoid(F.interpolate(w.pair(x, "bga.right1"), scale_factor=4))
    right = F.interpolate(left2 * torch.sigmoid(right2), scale_factor=4)
    return w.conv(w.unit(F.relu(w.pair(left1 + right, "bga.conv")), "head.conv"), "head.conv_out.1")


# STDC-Seg and PP-LiteSeg


def _stdc(w: Weights, x: Tensor, name: str) -> list[Tensor]:
    maps: list[Tensor] = []
    x = w.unit(w.unit(x, f"{name}.0", 2), f"{name}.1", 2)
    place = 2
    while w.has(f"{name}.{place}"):
        block = f"{name}.{place}"
        first = w.unit(x, f"{block}.conv_list.0")
        y = first
        if w.has(f"{block}.avd_layer"):
            maps.append(x)
            y, first = w.pair(first, f"{block}.avd_layer", stride=2), F.avg_pool2d(first, 3, 2, 1)
        kept = [first]
        for i in (1, 2, 3):
            y = w.unit(y, f"{block}.conv_list.{i}")
            kept.append(y)
        x = torch.cat(kept, 1)
        place += 1
    return [*maps[1:], x]


def stdc(w: Weights, image: Tensor) -> Tensor:
    x8, x16, x32 = _stdc(w, image, "cp.backbone.features")

    def unit(x: Tensor, name: str) -> Tensor:
        return w.unit(x, name, absolute=True)

    def arm(x: Tensor, name: str) -> Tensor:
        x = unit(x, f"{name}.conv")
        gate = w.norm(w.conv(_whole(x), f"{name}.conv_atten"), f"{name}.bn_atten", absolute=True)
        return x * torch.sigmoid(gate)

    y = arm(x32, "cp.arm32") + unit(_whole(x32), "cp.conv_avg")
    y = unit(F.interpolate(y, scale_factor=2), "cp.conv_head32")
    y = unit(F.interpolate(arm(x16, "cp.arm16") + y, scale_factor=2), "cp.conv_head16")
    y = unit(torch.cat([x8, y], 1), "ffm.convblk")
    y = y + y * torch.sigmoid(w.conv(F.relu(w.conv(_whole(y), "ffm.conv1")), "ffm.conv2"))
    return w.conv(unit(y, "conv_out.conv"), "conv_out.conv_out")


def pp_liteseg(w: Weights, image: Tensor) -> Tensor:
    maps = _stdc(w, image, "backbone.features")
    names = "_conv _batch_norm"
    head = "ppseg_head.cm"
    grids = [
        _up(w.unit(F.adaptive_avg_pool2d(maps[-1], size), f"{head}.stages.{i}.1", parts=names), maps[-1])
        for i, size in enumerate((1, 2, 4))
    ]
    y = w.unit(grids[0] + grids[1] + grids[2], f"{head}.conv_out", parts=names)
    for i in (2, 1, 0):
        arm = f"ppseg_head.arm_list.{i}"
        x = w.unit(maps[i], f"{arm}.conv_x", parts=names)
        y = _up(y, x)
        seen = [z for each in (x, y) for z in (each.mean(1, keepdim=True), each.max(1, keepdim=True).values)]
        share = w.unit(torch.cat(seen, 1), f"{arm}.conv_xy_atten.0", parts=names)
        last = f"{arm}.conv_xy_atten.1"
        share = torch.sigmoid(w.norm(w.conv(share, f"{last}._conv"), f"{last}._batch_norm"))
        y = w.unit(x * share + y * (1 - share), f"{arm}.conv_out", parts=names)
    return w.conv(w.unit(y, "seg_heads.0.conv", parts=names), "seg_heads.0.conv_out")


# Fast-SCNN: its scores before the last ReLU


def fast_scnn(w: Weights, image: Tensor) -> Tensor:
    def separable(x: Tensor, name: str, stride: int = 1) -> Tensor:
        return F.relu(w.pair(F.relu(w.pair(x, f"{name}.0", stride=stride)), f"{name}.1"))

    def corners(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)

    x = F.relu(w.pair(image, "learning_to_downsample.0", stride=2))
    fine = separable(separable(x, "learning_to_downsample.1", 2), "learning_to_downsample.2", 2)
    x = fine
    for i in range(8):
        block = f"global_feature_extractor.bottlenecks.{i}.conv"
        y = F.relu(w.pair(x, f"{block}.0"))
        y = F.relu(w.pair(y, f"{block}.1", stride=2 if i in (0, 3) else 1))
        y = w.pair(y, f"{block}.2")
        x = x + y if x.shape == y.shape else y
    ppm = "global_feature_extractor.ppm"
    grids = [
        corners(w.conv(F.adaptive_avg_pool2d(x, size), f"{ppm}.stage{i}.1"), x)
        for i, size in enumerate((1, 2, 4, 6), 1)
    ]
    x = corners(F.relu(w.pair(torch.cat([x, *grids], 1), f"{ppm}.conv")), fine)
    x = w.conv(F.relu(w.pair(x, "feature_fusion.lower_res_conv.0")), "feature_fusion.lower_res_conv.1")
    x = F.relu(w.norm(w.conv(fine, "feature_fusion.higher_res_conv") + x, "feature_fusion.non_linear.0"))
    return w.pair(separable(separable(x, "classifier.0"), "classifier.1"), "classifier.2")


# RegSeg


def regseg(w: Weights, image: Tensor) -> Tensor:
    def block(x: Tensor, name: str, dilation: int, stride: int) -> Tensor:
        y = F.relu(w.norm(w.conv(x, f"{name}.conv1"), f"{name}.bn1"))
        if w.has(f"{name}.conv2.convs"):
            halves = y.chunk(2, 1)
            parts = [
                w.conv(half, f"{name}.conv2.convs.{i}", 1, d)
                for i, (half, d) in enumerate(zip(halves, (1, dilation), strict=True))
            ]
            y = torch.cat(parts, 1)
        else:
            y = w.conv(y, f"{name}.conv2", stride)
        y = F.relu(w.norm(y, f"{name}.bn2"))
        gate = w.conv(F.relu(w.conv(_whole(y), f"{name}.se.conv1")), f"{name}.se.conv2")
        y = w.norm(w.conv(y * torch.sigmoid(gate), f"{name}.conv3"), f"{name}.bn3")
        if w.has(f"{name}.shortcut"):
            x = F.avg_pool2d(x, 2) if stride == 2 else x
            x = w.norm(w.conv(x, f"{name}.shortcut.conv"), f"{name}.shortcut.bn")
        return F.relu(y + x)

    x = w.unit(image, "stem", 2)
    maps = []
    for stage in ("stage4", "stage8", "stage16"):
        if w.has(f"body.{stage}.conv1"):
            x = block(x, f"body.{stage}", 1, 2)
        for i in range(14):
            name = f"body.{stage}.{i}"
            if w.has(name):
                x = block(x, name, 0 if i < 2 else 2 if i == 2 else 4 if i < 7 else 14, 1 if i else 2)
        maps.append(x)
    x4, x8, x16 = (w.unit(x, f"decoder.head{s}") for x, s in zip(maps, (4, 8, 16), strict=True))
    x8 = w.unit(x8 + _up(x16, x8), "decoder.conv8")
    return w.conv(w.unit(torch.cat([_up(x8, x4), x4], 1), "decoder.conv4"), "decoder.classifier")


FORWARDS: dict[str, Forward] = {
    "ddrnet": ddrnet,
    "pidnet": pidnet,
    "bisenetv2": bisenetv2,
    "stdc": stdc,
    "pp_liteseg": pp_liteseg,
    "fast_scnn": fast_scnn,
    "regseg": regseg,
}
"""What gives the class scores of an image, at the network's stride."""
