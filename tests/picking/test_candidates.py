"""What there is to choose from."""

from __future__ import annotations

import pytest

from conftest import error_line
from featherseg.core.errors import ConfigError
from featherseg.models.factory import create_model, list_models
from featherseg.picking.candidates import (
    VARIANTS,
    Candidate,
    Net,
    Variant,
    Way,
    candidates,
    nets,
    share_text,
    variants,
    ways_here,
)
from featherseg.runtime.engines import Engine


def test_every_registered_network_is_one() -> None:
    assert {variant.network for variant in variants()} == set(list_models())
    assert len({variant.slug for variant in variants()}) == len(variants())


@pytest.mark.parametrize("variant", [v for name in VARIANTS for v in variants([name])], ids=str)
def test_variants_can_be_built(variant: Variant) -> None:
    assert create_model(variant.network, 3, **variant.options).num_classes == 3


def test_networks_by_other_spellings_and_unknown_ones() -> None:
    assert [str(variant) for variant in variants(["JetNet", "jetnet"])] == ["jetnet"]
    assert '"jetnet"' in error_line(ConfigError, variants, ["jetnt"])


def test_largest_sizes_come_first() -> None:
    found = nets(variants(["jetnet", "lednet"]), (0.5, 1.0))
    assert [str(net) for net in found] == [
        "jetnet at full size",
        "lednet at full size",
        "jetnet at 1/2",
        "lednet at 1/2",
    ]
    assert found[0].size((360, 480)) == (360, 480)
    assert found[2].size((360, 480)) == (180, 240)
    assert found[0].long_side((360, 480)) is None
    for scales in ((), (0.0,), (5.0,)):
        assert "--scales" in error_line(ConfigError, nets, variants(["jetnet"]), scales)
    assert share_text(1 / 3) == "1/3"


def test_ways_and_reasons() -> None:
    ways, missing = ways_here()
    assert Way("fp32", Engine("onnxruntime")) in ways
    assert Way("int8", Engine("onnxruntime")) in ways
    assert "torch" in missing
    assert all(missing.values())
    found = candidates([Net(Variant("jetnet")), Net(Variant("jetnet"), 0.5)], ways)
    assert len({candidate.key for candidate in found}) == len(found) == 2 * len(ways)
    assert isinstance(found[0], Candidate)


def test_words_of_ways() -> None:
    assert str(Way("int8", Engine("onnxruntime"))) == "int8 onnxruntime"
    assert str(Way("fp32", Engine("onnxruntime"))) == "fp32 onnxruntime"
    mixed = Way("int8", Engine("openvino", "bf16"))
    assert (str(mixed), mixed.precision, mixed.file_kind) == ("int8 openvino bf16", "int8", "int8_openvino")
    assert Way("fp32", Engine("openvino", "bf16")).precision == "bf16"
