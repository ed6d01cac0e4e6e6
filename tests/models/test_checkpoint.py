from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from conftest import Tiny, error_line
from featherseg.core.errors import CheckpointError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.models.base import SegmentationModel
from featherseg.models.checkpoint import (
    HEADER,
    Checkpoint,
    load_checkpoint,
    load_state,
    load_weights,
    save_checkpoint,
    save_state,
)
from featherseg.models.factory import create_model

CLASSES = ClassSet(("sky", "road", "car"), ignore_index=200)


def write(tiny: Tiny, path: Path) -> Path:
    model = tiny(3, width=6)
    model.input_spec = InputSpec((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    return save_checkpoint(path, Checkpoint(model, CLASSES, {"epoch": 3, "val_miou": 0.5}))


def refusal(path: Path, load: Callable[[Path], Any] = load_checkpoint) -> str:
    message = error_line(CheckpointError, load, path)
    assert str(path) in message
    return message


def tamper(path: Path, **changes: Any) -> Path:
    """Rewrite a weights file with another description."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = {key: value for key, value in (header | changes).items() if value is not ...}
    save_file(weights, path, {HEADER: json.dumps(header)})
    return path


@pytest.mark.parametrize("name", ["best.safetensors", "best.pth", "best.pt"])
def test_a_checkpoint_rebuilds_its_network(tiny: Tiny, tmp_path: Path, name: str) -> None:
    path = write(tiny, tmp_path / name)
    back = load_checkpoint(path)
    assert back.classes == CLASSES
    assert back.training == {"epoch": 3, "val_miou": 0.5}
    assert back.model.options == {"width": 6}
    assert back.model.input_spec == InputSpec((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert not back.model.training
    for ours, theirs in zip(back.model.state_dict().values(), tiny(3, width=6).state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_pruned_network_comes_back_in_its_shape(tiny: Tiny, tmp_path: Path) -> None:
    model = create_model("tiny", 3, width=6, pruned={"encoder.0": 2})
    path = save_checkpoint(tmp_path / "best.safetensors", Checkpoint(model, CLASSES))
    back = load_checkpoint(path).model
    assert back.options == {"width": 6, "pruned": {"encoder.0": 2}}
    assert [x.shape for x in back.state_dict().values()] == [x.shape for x in model.state_dict().values()]
    torch.testing.assert_close(back.head.weight, model.head.weight, rtol=0, atol=0)
    tamper(path, options={"width": 6})
    assert "'encoder.0.weight' is (2, 3, 3, 3), but tiny with 3 classes has (6, 3, 3, 3)" in refusal(path)


def test_a_run_folder_stands_for_its_best_weights(tiny: Tiny, tmp_path: Path) -> None:
    assert "train first" in refusal(tmp_path)
    write(tiny, tmp_path / "last.safetensors")
    assert load_checkpoint(tmp_path).training["epoch"] == 3
    tamper(write(tiny, tmp_path / "best.safetensors"), training={"epoch": 2})
    assert load_checkpoint(tmp_path).training["epoch"] == 2


def test_other_suffixes_and_unregistered_networks_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be written as '\.onnx'"):
        write(tiny, tmp_path / "x.onnx")

    class Nameless(SegmentationModel):
        num_classes = 3

    with pytest.raises(CheckpointError, match="Nameless is not registered"):
        save_checkpoint(tmp_path / "x.pth", Checkpoint(Nameless(), CLASSES))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "tinny"}, "unknown network 'tinny'; did you mean \"tiny\"?"),
        ({"options": {"widht": 3}}, "has no option 'widht'"),
        ({"options": {"width": -6}}, "damaged description"),
        ({"options": 3}, "damaged description"),
        ({"num_classes": "three"}, "damaged description"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_classes": 4}, "3 classes for 4 logits"),
        ({"num_classes": 10**12}, "3 classes for 1000000000000 logits"),  # no memory holds such a network
        ({"options": {"pruned": {"encoder.0": 10**12}}}, "'encoder.0' has 1000000000000 channels"),
        ({"options": {"pruned": {"encoder.9": 2}}}, "'encoder.9' is no plain convolution"),
        ({"options": {"pruned": {"head": 2}}}, "leave 2 channels to the 'out' logits"),
        ({"options": {"pruned": [["encoder.0", 2]]}}, "give output channels by layer name"),
        ({"options": {"width": 6, "pruned": {"encoder.0": 2}}}, "'encoder.0.weight' is (6, 3, 3, 3), but tiny"),
        ({"classes": {"names": []}}, "at least one class"),
        ({"classes": ...}, "damaged description"),
        ({"input_spec": [1]}, "not three usable numbers"),
        ({"training": ...}, "damaged description"),
    ],
)
def test_tampered_descriptions(tiny: Tiny, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(tamper(write(tiny, tmp_path / "best.safetensors"), **changes))


@pytest.mark.parametrize("text", ["[]", "{", "3", "null"])
def test_a_description_that_is_none(tmp_path: Path, text: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", {HEADER: text})
    assert "damaged description" in refusal(tmp_path / "x.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("size", [0, 7, 500])
def test_torn_files(tiny: Tiny, tmp_path: Path, suffix: str, size: int) -> None:
    path = write(tiny, tmp_path / f"x{suffix}")
    path.write_bytes(path.read_bytes()[:size])
    assert "cannot be read" in refusal(path)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "no.pth")
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert "not written by featherseg" in refusal(tmp_path / "x.safetensors")
    for content in ({"a": torch.zeros(1)}, [torch.zeros(1)], {HEADER: 3}):
        torch.save(content, tmp_path / "x.pth")
        assert "not written by featherseg" in refusal(tmp_path / "x.pth")
    for weights in ([1], {"a": 3}):
        torch.save({HEADER: "{}", "weights": weights}, tmp_path / "x.pth")
        assert "no named tensors" in refusal(tmp_path / "x.pth")


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("plain", [True, False])
def test_pickled_code_is_not_run(tmp_path: Path, plain: bool) -> None:
    path, marker = tmp_path / "x.pth", tmp_path / "exploded"
    bomb = {HEADER: "{}", "weights": Bomb(marker)}
    if plain:
        path.write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, path)
    assert "cannot be read" in refusal(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(bomb))
    assert marker.exists()  # the bomb was a real one


def test_weights_that_do_not_fit_name_tensor_and_shapes(tiny: Tiny, tmp_path: Path) -> None:
    def message(model: Any, weights: dict[str, torch.Tensor]) -> str:
        return refusal(Path("w.pth"), lambda path: load_weights(model, weights, path))

    weights = tiny(3).state_dict()
    said = message(tiny(5), weights)
    assert "'head.weight' is (3, 4, 1, 1), but tiny with 5 classes has (5, 4, 1, 1)" in said
    assert "give the num_classes" in said
    assert "lacks 'head.bias'" in message(tiny(3), {k: v for k, v in weights.items() if k != "head.bias"})
    assert "holds 'extra'" in message(tiny(3), weights | {"extra": torch.zeros(1)})


def test_state_round_trip(tmp_path: Path) -> None:
    state: dict[Any, Any] = {
        "tensors": {"w": torch.randn(3, 4).t(), "b": torch.randn(2).bfloat16(), "n": torch.tensor(7)},
        "empty": torch.zeros(0, 3),
        "bits": torch.tensor([True, False]),
        1: {"1": torch.ones(1)},
        "1": {1: torch.zeros(1)},
        "a": {"b": torch.full((1,), 2.0)},
        "a.b": torch.full((1,), 3.0),
        "nothing": None,
        "plain": [1, 2.5, "x", True, float("inf"), {}, []],
        "pair": (0.9, 0.999),
        "same": [torch.arange(3)] * 2,
    }
    back = load_state(save_state(tmp_path / "state.safetensors", state))
    assert list(back) == list(state)
    assert back["pair"] == [0.9, 0.999]
    assert (back["plain"], back["nothing"]) == (state["plain"], None)
    flat = [
        (state["tensors"]["w"], back["tensors"]["w"]),
        (state["tensors"]["b"], back["tensors"]["b"]),
        (state["tensors"]["n"], back["tensors"]["n"]),
        (state["empty"], back["empty"]),
        (state["bits"], back["bits"]),
        (state[1]["1"], back[1]["1"]),
        (state["1"][1], back["1"][1]),
        (state["a"]["b"], back["a"]["b"]),
        (state["a.b"], back["a.b"]),
        (state["same"][1], back["same"][1]),
    ]
    for ours, theirs in flat:
        torch.testing.assert_close(theirs, ours, rtol=0, atol=0)


@pytest.mark.parametrize("state", [{}, [], 3, None])
def test_states_without_tensors(tmp_path: Path, state: Any) -> None:
    assert load_state(save_state(tmp_path / "s.safetensors", state)) == state


def test_an_optimiser_goes_on_where_it_was(tmp_path: Path) -> None:
    def make() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        groups: list[dict[str, Any]] = [{"params": [layer.weight], "lr": 0.1}, {"params": [layer.bias]}]
        return layer, torch.optim.AdamW(groups, lr=0.01)

    def step(layer: torch.nn.Linear, optimizer: torch.optim.AdamW) -> None:
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    layer, optimizer = make()
    step(layer, optimizer)
    path = save_state(tmp_path / "s.safetensors", {"o": optimizer.state_dict(), "m": layer.state_dict()})
    step(layer, optimizer)
    other, theirs = make()
    state = load_state(path)
    theirs.load_state_dict(state["o"])
    other.load_state_dict(state["m"])
    step(other, theirs)
    torch.testing.assert_close(other.weight, layer.weight, rtol=0, atol=0)
    assert theirs.param_groups[0]["lr"] == 0.1


def test_a_checkpoint_is_no_state(tiny: Tiny, tmp_path: Path) -> None:
    path = write(tiny, tmp_path / "best.safetensors")
    assert "is no whole training state" in refusal(path, load_state)
    path.write_bytes(path.read_bytes()[:100])
    assert "cannot be read" in refusal(path, load_state)
