"""CGNet's weights as zh320/realtime-semantic-segmentation-pytorch publishes them (Apache 2.0)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

RULES = (
    (r"^stage2_down\.", "down4."),
    (r"^stage2\.", "stage4."),
    (r"^stage3_down\.", "down8."),
    (r"^stage3\.", "stage8."),
    (r"^stage1\.conv0\.", "down2."),
    (r"^stage1\.conv1\.", "stage2.0."),
    (r"^stage1\.conv2\.", "stage2.1."),
    (r"\.conv\.", ".reduce."),
    (r"\.loc\.", ".local."),
    (r"\.sur\.", ".surrounding."),
    (r"\.joi\.", ".joint."),
    (r"\.glo\.", ".gate."),
    (r"\.activation\.", "."),
    (r"^seg_head\.", "classifier."),
)


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return published weights under our names; the gates' linear layers become 1×1 convolutions."""
    return {
        name: tensor[..., None, None] if ".gate." in name and tensor.ndim == 2 else tensor
        for name, tensor in renamed(weights, RULES).items()
    }
