"""EDANet's weights as zh320/realtime-semantic-segmentation-pytorch publishes them (Apache 2.0)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

RULES = (
    (r"^stage1\.", "stage2."),
    (r"^stage2_d\.", "down4."),
    (r"^stage2\.layers\.", "stage4."),
    (r"^stage3_d\.", "down8."),
    (r"^stage3\.layers\.", "stage8."),
    (r"^project\.", "classifier."),
    (r"\.bn_act\.0\.", ".norm."),
    # The five layers of a module: a 1×1, then two pairs.
    (r"(\d)\.conv\.0\.", r"\1.reduce."),
    (r"(\d)\.conv\.1\.", r"\1.plain.0."),
    (r"(\d)\.conv\.2\.", r"\1.plain.1."),
    (r"(\d)\.conv\.3\.", r"\1.dilated.0."),
    (r"(\d)\.conv\.4\.", r"\1.dilated.1."),
)


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published ``state_dict`` under the names of :class:`featherseg.models.families.edanet.EDANet`."""
    return renamed(weights, RULES)
