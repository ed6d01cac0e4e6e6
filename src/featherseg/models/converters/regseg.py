"""RegSeg for Cityscapes, of RolandGao/RegSeg (MIT)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .bisenetv2 import UNITS
from .renaming import renamed

RULES = (
    (r"^body\.", ""),
    # The base's stage at stride 4 is one block, without a number.
    (r"^stage4\.(conv|bn|se|shortcut)", r"stage4.0.\1"),
    (r"^(stage.*)\.se\.conv1\.", r"\1.gate.1."),
    (r"^(stage.*)\.se\.conv2\.", r"\1.gate.3."),
    (r"^(stage.*)\.conv2\.weight$", r"\1.conv2.0.convs.0.weight"),
    (r"^(stage.*)\.conv2\.convs\.", r"\1.conv2.0.convs."),
    (r"^(stage.*)\.conv([13])\.weight$", r"\1.conv\2.0.weight"),
    (r"^(stage.*)\.bn(\d)\.", r"\1.conv\2.1."),
    (r"^(stage.*)\.shortcut\.", r"\1.shortcut.1."),
    *UNITS,
    (r"^decoder\.conv(\d)\.", r"fuse\1."),
    (r"^decoder\.", ""),
)
"""Names of `blocks.py` and `model.py`, and ours."""


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors under our names."""
    return renamed(weights, RULES)
