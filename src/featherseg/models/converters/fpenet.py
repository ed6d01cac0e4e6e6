"""Names of the FPENet weights that zh320/realtime-semantic-segmentation-pytorch (Apache 2.0) published, to ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

RULES = (
    (r"^stage3_0\.", "down8."),
    (r"^stage3\.", "stage8."),
    (r"^stage2_0\.", "down4."),
    (r"^stage2\.", "stage4."),
    (r"^stage1\.", "stage2."),
    (r"\.conv_init\.", ".expand."),
    (r"\.layers\.", ".pyramid."),
    (r"\.conv_last\.", ".project."),
    (r"^decoder2\.", "fuse4."),
    (r"^decoder1\.", "fuse2."),
    (r"\.conv_(low|high)\.", r".\1."),
    (r"\.sa\.conv\.", ".where."),
    (r"\.ca\.1\.", ".what."),
    (r"^final\.", "classifier."),
)


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return published weights under our names."""
    return renamed(weights, RULES)
