"""Times that are predicted from layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from featherseg.models.base import SegmentationModel
from featherseg.models.factory import create_model
from featherseg.models.facts import count_gmacs
from featherseg.picking.layer_costs import LayerCost, NetCost, net_cost
from featherseg.picking.prediction import LEAST_MARGIN, Prediction, Sample, fit_prediction


@pytest.mark.parametrize("network", ["jetnet", "fastsegnet", "espnetv2", "resnet_unet"])
def test_costs_are_those_that_are_declared(network: str) -> None:
    model = create_model(network, 5)
    cost = net_cost(model, (64, 96))
    assert sum(layer.macs for layer in cost.layers.values()) / 1e9 == pytest.approx(
        count_gmacs(model.eval(), (64, 96)), rel=0.02
    )
    assert cost.other > 0


class OwnTensors(SegmentationModel):
    """One layer of each kind, and a tensor of its own, which is on the CPU."""

    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 2
        self.dense = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.pointwise = nn.Conv2d(8, 2, 1)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        x = self.grouped(self.depthwise(self.dense(image))) + torch.ones(1)
        return {"out": self.pointwise(x)}


def test_kinds_and_sums_by_hand() -> None:
    cost = net_cost(OwnTensors(), (64, 64))
    pixels = 64 * 64
    assert cost.layers["dense"] == LayerCost("dense", pixels * 216, pixels * 11 + 216)
    assert cost.layers["depthwise"] == LayerCost("depthwise", pixels * 72, pixels * 16 + 72)
    assert cost.layers["grouped"].kind == "grouped"
    assert cost.layers["pointwise"].kind == "pointwise"
    assert cost.other == 16 * pixels + 1


def of_machine(cost: NetCost) -> Sample:
    """What a machine would show that takes 1 ms for 10⁶ MACs, 2 for 10⁶ elements, and 0.01 for a layer."""
    layers = {name: layer.macs / 1e6 + 2 * layer.moved / 1e6 + 0.01 for name, layer in cost.layers.items()}
    rest = 3 * cost.other / 1e6
    return Sample(cost, layers, rest, 1.2 * (sum(layers.values()) + rest))


def test_a_machine_is_recovered_and_other_networks_are_predicted() -> None:
    costs = [net_cost(create_model(name, 4), (64, 96)) for name in ("jetnet", "fastsegnet", "lednet")]
    prediction = fit_prediction([of_machine(cost) for cost in costs[:2]])
    expected = of_machine(costs[2]).whole_ms
    assert prediction.ms(costs[2]) == pytest.approx(expected, rel=0.05)
    assert prediction.margin == LEAST_MARGIN
    assert prediction.far_too_slow(costs[2], expected / 2)
    assert not prediction.far_too_slow(costs[2], expected / 1.5)
    assert Prediction.from_dict(prediction.to_dict()) == prediction


def test_the_margin_grows_with_what_the_references_differ_by() -> None:
    one, other = (of_machine(net_cost(create_model(name, 4), (64, 96))) for name in ("jetnet", "lednet"))
    slow = Sample(other.cost, other.layer_ms, other.rest_ms, 4 * other.whole_ms)
    assert fit_prediction([one, slow]).margin > 2 * LEAST_MARGIN
