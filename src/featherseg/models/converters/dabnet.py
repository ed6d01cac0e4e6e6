"""DABNet's weights as zh320/realtime-semantic-segmentation-pytorch publishes them (Apache 2.0)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

RULES = (
    *((rf"^layer{i + 1}\.", f"stage2.{i}.") for i in range(3)),
    (r"^layer4\.", "down4."),
    (r"^layer5_7\.", "stage4."),
    (r"^layer8\.", "down8."),
    # Six modules at stride 8, named in pairs of one dilation.
    *((rf"^layer{9 + i}_{10 + i}\.{j}\.", f"stage8.{i + j}.") for i in (0, 2, 4) for j in (0, 1)),
    (r"^layer15\.", "classifier."),
    (r"\.init_conv\.", ".reduce."),
    (r"\.left_branch\.", ".near."),
    (r"\.right_branch\.", ".far."),
    (r"\.last_conv\.", ".expand."),
    (r"^(down4)\.conv\.2\.activation\.", r"\1.act."),
    (r"\.activation\.", "."),
)


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published ``state_dict`` under the names of :class:`featherseg.models.families.dabnet.DABNet`."""
    return renamed(weights, RULES)
