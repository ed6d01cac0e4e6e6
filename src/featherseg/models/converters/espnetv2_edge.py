"""ESPNetv2 for PASCAL VOC, of sacmehta/EdgeNets (MIT)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

DROPPED = r"^base_net\.level\d_0\.eesp\.module_act\."
"""Activations that the published network has and never uses."""
RULES = (
    (r"^base_net\.level1\.", "stem."),
    (r"^base_net\.level2_0\.", "down4."),
    (r"^base_net\.level3_0\.", "down8."),
    (r"^base_net\.level4_0\.", "down16."),
    (r"^base_net\.level3\.(\d)\.", r"stage8.\1."),
    (r"^base_net\.level4\.(\d)\.", r"stage16.\1."),
    (r"^(stage\d+\.\d)\.(proj_1x1|spp_dw|conv_1x1_exp|br_after_cat)\.", r"\1.eesp.\2."),
    (r"\.module_act\.", ".act."),
    (r"\.br_after_cat\.bn\.", ".act.0."),
    (r"\.br_after_cat\.act\.", ".act.1."),
    (r"\.spp_dw\.(\d)\.conv\.", r".branches.\1."),
    (r"\.proj_1x1\.", ".reduce."),
    (r"\.conv_1x1_exp\.", ".expand."),
    (r"\.inp_reinf\.", ".image."),
    (r"^(stem|.*\.(?:reduce|expand|image\.\d))\.conv\.", r"\1.0."),
    (r"^(stem|.*\.(?:reduce|expand|image\.\d))\.bn\.", r"\1.1."),
    (r"^(stem|.*\.(?:reduce|expand|image\.\d))\.act\.", r"\1.2."),
    (r"^bu_dec_l1\.", "pyramid16."),
    (r"^bu_dec_l2\.", "pyramid8."),
    (r"^bu_dec_l3\.", "pyramid4."),
    (r"^bu_dec_l4\.", "pyramid2."),
    (r"\.projection_layer\.cbr\.", ".reduce."),
    (r"\.stages\.", ".sizes."),
    (r"\.merge_layer\.0\.br\.", ".act."),
    (r"\.merge_layer\.2\.cbr\.", ".mix."),
    (r"\.merge_layer\.3\.", ".expand."),
    (r"\.br\.br\.", ".end."),
    (r"^merge_enc_dec_l2\.", "skip8."),
    (r"^merge_enc_dec_l3\.", "skip4."),
    (r"^merge_enc_dec_l4\.", "skip2."),
    (r"\.wt_layer\.", ".gate."),
    (r"\.expansion_layer\.cbr\.", ".conv."),
    (r"^bu_br_l2\.", "act8."),
    (r"^bu_br_l3\.", "act4."),
    (r"^bu_br_l4\.", "act2."),
)
"""Names of `model/segmentation/espnetv2.py`, and ours."""


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors under our names."""
    return renamed(weights, RULES, DROPPED)
