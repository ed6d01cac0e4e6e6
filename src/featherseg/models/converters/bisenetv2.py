"""BiSeNetV2 for Cityscapes and other sets, of CoinCheung/BiSeNet (MIT)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

UNITS = (
    (r"^(.*)\.conv\.(weight|bias)$", r"\1.0.\2"),
    (r"^(.*)\.bn\.", r"\1.1."),
)
"""A unit's convolution and batch norm, whose activation has no tensors."""
RULES = (
    # Units come after what has a unit's names itself.
    (r"^segment\.S5_5\.bn\.", "context.whole.0."),
    (r"^segment\.S5_5\.conv_gap\.conv\.", "context.whole.1."),
    (r"^segment\.S5_5\.conv_gap\.bn\.", "context.whole.2."),
    (r"^segment\.S5_5\.conv_last\.", "context.mix."),
    (r"^bga\.left1\.([01])\.", r"fuse.detail.0.\1."),
    (r"^bga\.left1\.2\.", "fuse.detail.1."),
    (r"^bga\.left2\.", "fuse.detail_down.0."),
    (r"^bga\.right1\.", "fuse.meaning_up."),
    (r"^bga\.right2\.([01])\.", r"fuse.meaning.0.\1."),
    (r"^bga\.right2\.2\.", "fuse.meaning.1."),
    (r"^bga\.conv\.", "fuse.mix."),
    *UNITS,
    (r"^detail\.S1\.", "detail2."),
    (r"^detail\.S2\.", "detail4."),
    (r"^detail\.S3\.", "detail8."),
    (r"^segment\.S1S2\.", "stem."),
    (r"^segment\.S3\.", "stage8."),
    (r"^segment\.S4\.", "stage16."),
    (r"^segment\.S5_4\.", "stage32."),
    (r"^(stage.*)\.conv1\.", r"\1.gather."),
    (r"^(stage.*)\.dwconv1?\.", r"\1.expand.0."),
    (r"^(stage.*)\.dwconv2\.", r"\1.expand.1."),
    (r"^(stage.*)\.conv2\.", r"\1.project."),
    (r"^(stage.*)\.shortcut\.([01])\.", r"\1.shortcut.0.\2."),
    (r"^(stage.*)\.shortcut\.2\.", r"\1.shortcut.1.0."),
    (r"^(stage.*)\.shortcut\.3\.", r"\1.shortcut.1.1."),
    (r"^aux2\.", "aux_2."),
    (r"^aux3\.", "aux_4."),
    (r"^aux4\.", "aux_8."),
    (r"^aux5_4\.", "aux_16."),
    (r"^(head|aux_\d+)\.conv\.", r"\1.0."),
    (r"^head\.conv_out\.1\.", "head.2."),
    (r"^(aux_\d+)\.conv_out\.0\.1\.", r"\1.3."),
    (r"^(aux_\d+)\.conv_out\.1\.", r"\1.4."),
)
"""Names of `lib/models/bisenetv2.py`, and ours."""


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors under our names."""
    return renamed(weights, RULES)
