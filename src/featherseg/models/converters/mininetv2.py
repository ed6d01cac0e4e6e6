"""MiniNetV2's weights as zh320/realtime-semantic-segmentation-pytorch publishes them (Apache 2.0)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

RULES = (
    (r"^d1_2\.", "stem."),
    (r"^ref\.", "detail."),
    (r"^m1_10\.", "stage4."),
    (r"^d3\.", "down8."),
    (r"^feature_extractor\.", "stage8."),
    (r"^up1\.up_conv\.", "up4."),
    (r"^m26_29\.", "refine."),
    (r"^output\.up_conv\.", "classifier."),
    (r"\.dw_conv\.", ".plain."),
    (r"\.ddw_conv\.", ".dilated."),
    (r"\.pw_conv\.", ".mix."),
)


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published ``state_dict`` under the names of :class:`.families.mininetv2.MiniNetV2`."""
    return renamed(weights, RULES)
