"""DDRNet for Cityscapes, of ydhongHIT/DDRNet (MIT)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

DROPPED = r"^loss\."
"""Class weights of the training's loss, which its checkpoints hold beside the model."""
BLOCKS = (
    # Of a layer's blocks, all but the first come after a ReLU.
    (r"^(layer[34]_?|layer[12])\.1\.", r"\1.2."),
    (r"^(layer5_?)\.0\.", r"\1."),
    (r"^(layer.*)\.conv(\d)\.", r"\1.conv\2.0."),
    (r"^(layer.*)\.bn(\d)\.", r"\1.conv\2.1."),
    (r"\.downsample\.", ".shortcut."),
)
CONTEXT = (
    (r"^spp\.scale0\.", "spp.scales.0."),
    (r"^spp\.scale(\d)\.1\.", r"spp.scales.\1.0."),
    (r"^spp\.scale(\d)\.3\.", r"spp.scales.\1.2."),
    (r"^spp\.process1\.", "spp.mix.0."),
    (r"^spp\.process2\.", "spp.mix.1."),
    (r"^spp\.process3\.", "spp.mix.2."),
    (r"^spp\.process4\.", "spp.mix.3."),
    (r"^spp\.scale_process\.", "spp.mix."),
    (r"^spp\.compression\.", "spp.fuse."),
    (r"^spp\.", "context."),
)
HEADS = (
    (r"^(final_layer|seghead_\w+)\.bn1\.", r"\1.0."),
    (r"^(final_layer|seghead_\w+)\.conv1\.", r"\1.2."),
    (r"^(final_layer|seghead_\w+)\.bn2\.", r"\1.3."),
    (r"^(final_layer|seghead_\w+)\.conv2\.", r"\1.5."),
    (r"^final_layer\.", "head."),
    (r"^seghead_(extra|p)\.", "aux_head."),
)
STAGES = (
    (r"^conv1\.", "stem."),
    (r"^layer1\.", "stage4."),
    (r"^layer2\.", "stage8."),
    (r"^layer3\.", "stage16."),
    (r"^layer4\.", "stage32."),
    (r"^layer5\.", "stage64."),
    (r"^layer3_\.", "fine1."),
    (r"^layer4_\.", "fine2."),
    (r"^layer5_\.", "fine3."),
    (r"^compression3\.", "up16."),
    (r"^compression4\.", "up32."),
)
RULES = (
    (r"^model\.", ""),
    *BLOCKS,
    *CONTEXT,
    *HEADS,
    *STAGES,
    (r"^down3\.", "down16."),
    (r"^down4\.([01])\.", r"down32.0.\1."),
    (r"^down4\.3\.", "down32.1.0."),
    (r"^down4\.4\.", "down32.1.1."),
)
"""Names of `segmentation/DDRNet_23.py`, within a training's ``model.`` or without, and ours."""


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors under our names."""
    return renamed(weights, RULES, DROPPED)
