from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import error_line
from featherseg.core.errors import ConfigError
from featherseg.core.registry import Registry


class Box:
    def __init__(self, size: int, *, scale: float = 1.0, path: str | Path | None = None) -> None:
        self.size, self.scale, self.path = size, scale, path


def filled() -> Registry[Any]:
    registry: Registry[Any] = Registry("thing")
    registry.register("box")(Box)
    registry.register("sum")(lambda *values, **named: sum(values) + sum(named.values()))
    return registry


def test_names_are_sorted_and_filtered() -> None:
    registry = filled()
    assert registry.names() == list(registry) == ["box", "sum"]
    assert registry.names("b*") == ["box"]
    assert "box" in registry
    assert "bax" not in registry


def test_a_name_is_given_once() -> None:
    registry = filled()
    with pytest.raises(ConfigError, match="thing 'box' is registered already"):
        registry.register("box")(Box)
    assert registry.get("box") is Box


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"^unknown thing 'bxo'; did you mean \"box\"\?$"):
        filled().get("bxo")


def test_create_passes_arguments() -> None:
    registry = filled()
    assert registry.create("box", 3, scale=2).scale == 2
    assert registry.create("box", size=1, path="x").path == "x"
    assert registry.create("sum", 1, 2, anything=4) == 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scal": 1.0}, "has no option 'scal'; did you mean \"scale\"?"),
        ({"scale": "wide"}, "option scale is 'wide'; it takes a number"),
        ({"scale": True}, "option scale is True; it takes a number"),
        ({"size": 1.5}, "option size is 1.5; it takes a whole number"),
        ({"path": 3}, "option path is 3; it takes text or a path or nothing"),
    ],
)
def test_wrong_options_are_refused_before_the_call(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as info:
        filled().create("box", **{"size": 1} | options)
    assert words in str(info.value)
    assert "\n" not in str(info.value)


def test_names_are_spelled_as_one_likes() -> None:
    registry: Registry[Any] = Registry("net", meanings={"unet": ("res_net", "a U-Net")})
    for name in ("res_net", "jetnet", "a_b", "ab"):
        registry.register(name)(lambda: None)
    for written in ("ResNet", "res-net", "Res Net", "RES_NET"):
        assert registry.spelled(written) == "res_net"
        assert written in registry
    assert registry.spelled("a_b") == "a_b"
    assert registry.spelled("A-B") is None  # two are spelled so
    assert registry.spelled("unet") is None


def test_what_others_call_a_thing_is_said_by_its_meaning() -> None:
    registry: Registry[Any] = Registry("net", meanings={"unet": ("res_net", "a U-Net")})
    registry.register("res_net")(lambda: None)
    registry.register("enet")(lambda: None)
    assert (
        error_line(ConfigError, registry.get, "UNet++")
        == "unknown net 'UNet++'; the nearest here is \"res_net\", a U-Net"
    )
    assert 'did you mean "res_net"?' in error_line(ConfigError, registry.get, "res_nett")
