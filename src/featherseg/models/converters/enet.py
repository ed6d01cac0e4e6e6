"""ENet's weights as zh320/realtime-semantic-segmentation-pytorch publishes them (Apache 2.0)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

RULES = (
    (r"^initial\.conv\.2\.activation\.", "stem.act."),
    (r"^initial\.", "stem."),
    (r"^bottleneck1\.conv_pool\.", "down4."),
    (r"^bottleneck2\.conv_pool\.", "down8."),
    (r"^bottleneck([123])\.conv_regular\.", r"stage\1."),
    (r"^bottleneck4\.conv_unpool\.", "up4."),
    (r"^bottleneck4\.conv_regular\.", "stage4.0."),
    (r"^bottleneck4\.conv_extra\.", "stage4.1."),
    (r"^bottleneck5\.conv_unpool\.", "up2."),
    (r"^bottleneck5\.conv_regular\.", "stage5."),
    (r"\.left_conv\.", ".skip."),
    (r"\.right_init_conv\.", ".branch."),
    (r"\.right_last_conv\.", ".expand."),
    (r"^fullconv\.up_conv\.0\.", "classifier."),
    (r"\.up_conv\.", "."),
    (r"\.activation\.", "."),
)


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published ``state_dict`` under the names of :class:`featherseg.models.families.enet.ENet`."""
    return renamed(weights, RULES)
