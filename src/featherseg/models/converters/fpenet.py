"""FPENet's weights as zh320/realtime-semantic-segmentation-pytorch publishes them (Apache 2.0)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..families.fpenet import DILATIONS
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
    """Return published weights under our names; each block's expansion is split into one for each of its dilations."""
    ours: dict[str, Tensor] = {}
    for name, tensor in renamed(weights, RULES).items():
        block, expand, rest = name.partition(".expand.")
        if not expand:
            ours[name] = tensor
            continue
        # A batch norm's count of batches has no channels.
        parts = tensor.chunk(len(DILATIONS)) if tensor.ndim else [tensor] * len(DILATIONS)
        ours |= {f"{block}.expand.{i}.{rest}": part.clone() for i, part in enumerate(parts)}
    return ours
