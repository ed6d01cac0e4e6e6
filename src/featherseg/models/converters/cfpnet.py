"""CFPNet's weights as zh320/realtime-semantic-segmentation-pytorch publishes them (Apache 2.0)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

RULES = (
    (r"^conv_init\.", "stage2."),
    (r"^downsample1\.", "down4."),
    (r"^cfp1\.", "stage4."),
    (r"^downsample2\.", "down8."),
    (r"^cfp2\.", "stage8."),
    (r"^seg_head\.", "classifier."),
    (r"\.conv_init\.", ".reduce."),
    (r"\.layers\.", ".pyramids."),
    (r"\.block1\.", ".kernel3."),
    (r"\.block2\.", ".kernel5."),
    (r"\.block3\.", ".kernel7."),
    (r"\.conv_last\.", ".mix."),
    (r"^(down\d)\.conv\.2\.activation\.", r"\1.act."),
    (r"\.activation\.", "."),
)


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published ``state_dict`` under the names of :class:`featherseg.models.families.cfpnet.CFPNet`."""
    return renamed(weights, RULES)
