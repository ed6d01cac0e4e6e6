"""STDC-Seg for Cityscapes, of MichaelFan01/STDC-Seg (MIT)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ...core.errors import CheckpointError
from .bisenetv2 import UNITS
from .renaming import renamed

DROPPED = r"^cp\.backbone\.(x\d+|conv_last|fc|bn|linear)\.|^conv_out_sp\d+\."
"""Second names of the backbone's stages, its ImageNet classifier, and the detail heads of training."""
BLOCKS = (
    (r"\.conv_list\.", ".convs."),
    (r"\.avd_layer\.", ".down."),
)
RULES = (
    *BLOCKS,
    (r"^cp\.arm(\d+)\.conv_atten\.", r"arm\1.gate.1."),
    (r"^cp\.arm(\d+)\.bn_atten\.", r"arm\1.gate.2."),
    (r"^cp\.conv_avg\.conv\.", "whole.1."),
    (r"^cp\.conv_avg\.bn\.", "whole.2."),
    *UNITS,
    (r"^cp\.conv_head(\d+)\.", r"up\1."),
    (r"^cp\.", ""),
    (r"^ffm\.convblk\.", "fuse.mix."),
    (r"^ffm\.conv1\.", "fuse.attention.1."),
    (r"^ffm\.conv2\.", "fuse.attention.3."),
    (r"^conv_out\.conv_out\.", "head.1."),
    (r"^conv_out\.conv\.", "head.0."),
    (r"^conv_out16\.conv_out\.", "aux_8.1."),
    (r"^conv_out16\.conv\.", "aux_8.0."),
    (r"^conv_out32\.conv_out\.", "aux_16.1."),
    (r"^conv_out32\.conv\.", "aux_16.0."),
)
"""Names of `models/model_stages.py`, with the backbone's stages found, and ours."""
EPS = 1e-5


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors under our names.

    All batch norms outside the backbone are in-place ones (Mapillary's of 2018), which scale by |weight| + 1e-5.

    Raises:
        CheckpointError: the backbone has another number of blocks than STDC1 and STDC2.
    """
    scaled = {
        name: tensor.abs() + EPS if re.search(r"\.bn(_atten)?\.weight$", name) and ".backbone." not in name else tensor
        for name, tensor in weights.items()
    }
    return renamed(scaled, [*backbone_rules(weights, "cp.backbone."), *RULES], DROPPED)


def backbone_rules(weights: Mapping[str, Tensor], prefix: str) -> list[tuple[str, str]]:
    """Return rules for the numbered layers of a backbone whose names begin with `prefix`."""
    places = {name[len(prefix) :].split(".")[1] for name in weights if name.startswith(f"{prefix}features.")}
    starts = {8: (2, 4, 6), 14: (2, 6, 11)}.get(len(places))
    if starts is None:
        raise CheckpointError(f"the published backbone has {len(places)} layers; STDC1 has 8, STDC2 has 14")
    rules = []
    for place in range(len(places)):
        if place < starts[0]:
            ours = f"stem.{place}"
        else:
            stage = max(i for i, start in enumerate(starts) if start <= place)
            ours = f"stage{8 << stage}.{place - starts[stage]}"
        rules.append((rf"^{re.escape(prefix)}features\.{place}\.", f"{prefix}{ours}."))
    return rules
