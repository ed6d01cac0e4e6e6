"""PP-LiteSeg for Cityscapes and CamVid, of PaddlePaddle/PaddleSeg (Apache 2.0).

Its ``.pdparams`` files are pickled NumPy arrays; what is converted here are tensors of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .bisenetv2 import UNITS
from .renaming import renamed, without_bias
from .stdc import BLOCKS, backbone_rules

DROPPED = r"^backbone\.(x\d+|conv_last)\.|\._scale$"
"""Second names of the backbone's stages, its last layer for ImageNet, and a constant one of each fusion."""
BIASED = ("pyramid.grids.0", "pyramid.grids.1", "pyramid.grids.2", "pyramid.mix")
"""Units whose convolution has a bias before batch norm, which ours has not."""
RULES = (
    (r"\._mean$", ".running_mean"),
    (r"\._variance$", ".running_var"),
    (r"\._conv\.", ".0."),
    (r"\._batch_norm\.", ".1."),
    *BLOCKS,
    (r"^seg_heads\.(\d)\.conv_out\.", r"seg_heads.\1.1."),
    (r"^seg_heads\.(\d)\.conv\.", r"seg_heads.\1.0."),
    *UNITS,
    (r"^ppseg_head\.cm\.stages\.(\d)\.1\.", r"pyramid.grids.\1."),
    (r"^ppseg_head\.cm\.conv_out\.", "pyramid.mix."),
    (r"^ppseg_head\.arm_list\.0\.", "fuse8."),
    (r"^ppseg_head\.arm_list\.1\.", "fuse16."),
    (r"^ppseg_head\.arm_list\.2\.", "fuse32."),
    (r"\.conv_x\.", ".low."),
    (r"\.conv_xy_atten\.", ".attention."),
    (r"\.conv_out\.", ".mix."),
    (r"^seg_heads\.0\.", "head."),
    (r"^seg_heads\.1\.", "aux_16."),
    (r"^seg_heads\.2\.", "aux_32."),
)
"""Names of `paddleseg/models/pp_liteseg.py`, with the backbone's stages found, and ours."""


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors under our names.

    Raises:
        CheckpointError: the backbone has another number of blocks than STDC1 and STDC2.
    """
    ours = renamed(weights, [*backbone_rules(weights, "backbone."), *RULES], DROPPED)
    for name in BIASED:
        ours = without_bias(ours, f"{name}.0", f"{name}.1")
    return ours
