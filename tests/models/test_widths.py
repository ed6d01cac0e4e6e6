from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from featherseg.core.errors import ConfigError
from featherseg.models.base import SegmentationModel
from featherseg.models.factory import create_model
from featherseg.models.facts import count_parameters
from featherseg.models.widths import is_depthwise, narrow


@pytest.fixture
def jetnet() -> Iterator[SegmentationModel]:
    torch.manual_seed(0)
    model = create_model("jetnet", 5)
    before = copy.deepcopy(model.state_dict())
    yield model
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key]), "a refused record changes nothing"


WIDE = {"stem.0.0": 24, "stem.1.conv2.0": 24, "stem.2.conv2.0": 24}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"stem.9": 4}, "pruned layer 'stem.9' is no plain convolution; did you mean"),
        ({"stem.0.1": 4}, "is no plain convolution"),
        ({"down4.0": 65}, "has 65 channels; give a whole number of 1 to 64"),
        ({"down4.0": 10**12}, "has 1000000000000 channels"),
        ({"down4.0": 0}, "has 0 channels"),
        ({"down4.0": 8.0}, "has 8.0 channels"),
        ({"down4.0": True}, "has True channels"),
        ({"down4.0": [3, 24]}, "has [3, 24] channels"),
        ({4: 4}, "pruned layer 4 is no plain convolution"),
        ({"stem.0.0": 24}, "do not fit together"),
        ({"classifier": 3}, "leave 3 channels to the 'out' logits of 5 classes"),
        ([1], "pruned is [1]; give output channels by layer name"),
        ("x", "pruned is 'x'"),
    ],
)
def test_torn_records_are_refused(jetnet: SegmentationModel, record: Any, words: str) -> None:
    for act in (lambda: narrow(jetnet, record), lambda: create_model("jetnet", 5, pruned=record)):
        with pytest.raises(ConfigError) as info:
            act()
        assert words in str(info.value)
        assert "\n" not in str(info.value)


def test_layers_that_do_no_work_are_refused(tiny: Any) -> None:
    net = tiny(3)
    net.idle = nn.Conv2d(4, 4, 1)
    with pytest.raises(ConfigError, match="'idle' takes no part in the network's work"):
        narrow(net, {"idle": 2})
    narrow(net, {"idle": 4, "encoder.0": 2})
    assert (net.head.in_channels, net.aux_head.in_channels, net.idle.out_channels) == (2, 2, 4)


def test_a_record_by_hand_is_a_narrower_network(jetnet: SegmentationModel) -> None:
    model = create_model("jetnet", 5, pruned=WIDE)
    assert model.options == {"pruned": WIDE}
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 5, 64, 64)
    assert count_parameters(model)[0] < count_parameters(jetnet)[0]
    assert create_model("jetnet", 5, pruned={}).options == {"pruned": {}}
    assert "pruned" not in create_model("jetnet", 5).options


def test_weights_of_the_whole_encoder_are_refused() -> None:
    with pytest.raises(ConfigError, match="encoder_weights are of the whole encoder"):
        create_model("fastsegnet", 5, pruned={"detail.0": 8}, encoder_weights="imagenet")
    assert create_model("mobilenet_aspp", 5, pruned={"low.0": 8}, pretrained=False).low[0].out_channels == 8


def test_depthwise_layers_are_known() -> None:
    assert is_depthwise(nn.Conv2d(4, 4, 3, groups=4))
    assert not is_depthwise(nn.Conv2d(4, 8, 3, groups=4))
    assert not is_depthwise(nn.Conv2d(1, 1, 3))
    assert not is_depthwise(nn.Conv2d(4, 4, 3, groups=2))
