"""ESPNetv2 for Cityscapes, of zh320/realtime-semantic-segmentation-pytorch (Apache 2.0)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

RULES = (
    (r"\.activation\.", "."),
    (r"^l1_block\.", "stem."),
    (r"^l2_block\.", "down4."),
    (r"^l3_block1\.", "down8."),
    (r"^l4_block1\.", "down16."),
    (r"^l3_block2\.", "stage8."),
    (r"^l4_block2\.", "stage16."),
    (r"^(down\d+)\.(conv_init|layers|conv_last)\.", r"\1.eesp.\2."),
    (r"\.conv_init\.", ".reduce."),
    (r"\.conv_last\.", ".expand."),
    (r"\.layers\.(\d)\.0\.", r".branches.\1."),
    (r"\.layers\.(\d)\.1\.0\.", r".branches.\1.3."),
    (r"\.layers\.(\d)\.1\.1\.", r".branches.\1.4."),
    (r"\.layers\.(\d)\.1\.2\.", r".branches.\1.5."),
    (r"\.conv_stride\.", ".image."),
    (r"^convl4_l3\.", "context."),
    (r"^ppm\.stage1\.1\.", "pyramid.reduce.0."),
    (r"^ppm\.stage2\.1\.", "pyramid.reduce.1."),
    (r"^ppm\.stage3\.1\.", "pyramid.reduce.2."),
    (r"^ppm\.stage4\.1\.", "pyramid.reduce.3."),
    (r"^ppm\.conv\.", "pyramid.project."),
    (r"^decoder\.0\.", "head."),
    (r"^decoder\.1\.", "classifier."),
)
"""Names of `models/espnetv2.py`, and ours."""


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors under our names."""
    return renamed(weights, RULES)
