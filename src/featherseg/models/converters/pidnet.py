"""PIDNet for Cityscapes and CamVid, of XuJiacong/PIDNet (MIT)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .ddrnet import CONTEXT, HEADS, STAGES
from .renaming import renamed

DROPPED = r"^loss\.|^(model\.)?seghead_d\."
"""The boundary head of training, and the loss's class weights."""
RULES = (
    (r"^model\.", ""),
    (r"^(layer[34]_?|layer[12])\.2\.", r"\1.4."),
    (r"^(layer[34]_?|layer[12])\.1\.", r"\1.2."),
    (r"^(layer5_|layer[45]_d)\.0\.", r"\1."),
    (r"^(layer.*)\.conv(\d)\.", r"\1.conv\2.0."),
    (r"^(layer.*)\.bn(\d)\.", r"\1.conv\2.1."),
    (r"\.downsample\.", ".shortcut."),
    *CONTEXT,
    *HEADS,
    *STAGES,
    (r"^layer3_d\.", "edge1."),
    (r"^layer4_d\.", "edge2."),
    (r"^layer5_d\.", "edge3."),
    (r"^diff3\.", "edge16."),
    (r"^diff4\.", "edge32."),
    (r"^pag3\.", "attend16."),
    (r"^pag4\.", "attend32."),
    (r"\.f_x\.", ".fine."),
    (r"\.f_y\.", ".context."),
    (r"^dfm\.conv_p\.", "fuse.fine."),
    (r"^dfm\.conv_i\.", "fuse.context."),
)
"""Names of `models/pidnet.py`, within a training's ``model.`` or without, and ours."""


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors under our names."""
    return renamed(weights, RULES, DROPPED)
