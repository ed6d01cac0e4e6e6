"""FDDWNet's weights as zh320/realtime-semantic-segmentation-pytorch publishes them (Apache 2.0)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed

RULES = (
    # Layers of one stage are counted on from those before.
    (r"^layer1\.", "stage2."),
    (r"^layer2\.", "stage4.0."),
    *((rf"^layer3_7\.{i}\.", f"stage4.{i + 1}.") for i in range(5)),
    (r"^layer8\.", "stage8.0."),
    *((rf"^layer9_16\.{i}\.", f"stage8.{i + 1}.") for i in range(8)),
    *((rf"^layer17_24\.{i}\.", f"stage8.{i + 9}.") for i in range(8)),
    (r"^layer25\.up_conv\.", "up4.0."),
    *((rf"^layer26_27\.{i}\.", f"up4.{i + 1}.") for i in range(2)),
    (r"^layer28\.up_conv\.", "up2.0."),
    *((rf"^layer29_30\.{i}\.", f"up2.{i + 1}.") for i in range(2)),
    (r"^layer31\.up_conv\.", "head."),
    # A unit's six layers are two halves of three; only a unit has a number before its "conv".
    *((rf"^(stage4|stage8|up4|up2)\.(\d+)\.conv\.{i}\.(?=\d)", rf"\1.\2.plain.{i}.") for i in range(3)),
    *((rf"^(stage4|stage8|up4|up2)\.(\d+)\.conv\.{i + 3}\.(?=\d)", rf"\1.\2.dilated.{i}.") for i in range(3)),
)


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published ``state_dict`` under the names of :class:`featherseg.models.families.fddwnet.FDDWNet`."""
    return renamed(weights, RULES)
