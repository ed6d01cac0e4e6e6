"""`featherseg soup`, and soups as a start."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import TINY, Ended, Trained
from featherseg.core.types import ClassSet
from featherseg.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from featherseg.models.factory import create_model
from featherseg.models.transfer import class_axes


@pytest.fixture
def runs(trained: Trained, tmp_path: Path) -> list[Path]:
    """A run, and one whose weights are nearly the same."""
    near = tmp_path / "near"
    shutil.copytree(trained.run, near)
    best = load_checkpoint(near)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in best.model.parameters():
            parameter.mul_(1 + 0.02 * torch.randn(parameter.shape, generator=generator))
    save_checkpoint(near / "best.safetensors", best)
    return [trained.run, near]


def contrary(trained: Trained, path: Path) -> Path:
    """The run's network with class heads that say the opposite, four times as loud."""
    best = load_checkpoint(trained.run)
    heads = class_axes(best.model, len(best.classes))
    with torch.no_grad():
        for name, tensor in best.model.state_dict().items():
            if name in heads:
                tensor.mul_(-4)
    return save_checkpoint(path, best)


def test_a_soup_is_written_and_scored_beside_its_runs(
    run: Callable[..., Ended], runs: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "soup.safetensors"
    ended = run("soup", *runs, "-o", out, "-q", "--json")
    assert ended.code == 0, ended.err
    for source, row in zip(runs, ended.json["runs"], strict=True):
        assert run("eval", source, "-q", "--json").json["miou"] == pytest.approx(row["miou"], abs=1e-9)
    mixed = load_checkpoint(out)
    ours, theirs = (load_checkpoint(path).model.state_dict() for path in runs)
    for name, tensor in mixed.model.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (ours[name] + theirs[name]) / 2)
    assert mixed.training["soup"] == [str(path) for path in runs]
    assert mixed.training["val_miou"] == pytest.approx(ended.json["soup"]["miou"], abs=1e-6)
    assert [row["taken"] for row in ended.json["runs"]] == [True, True]
    text = run("soup", *runs, "-o", out, "-q").out  # its own file may be replaced
    for words in ("in the soup", "boundary F1", "points of mIoU", "val"):
        assert words in text


def test_a_greedy_soup_leaves_out_what_spoils_it(
    run: Callable[..., Ended], trained: Trained, runs: list[Path], tmp_path: Path
) -> None:
    spoilt = contrary(trained, tmp_path / "contrary.safetensors")
    out = tmp_path / "soup.safetensors"
    ended = run("soup", *runs, spoilt, "--greedy", "-o", out, "-q", "--json")
    assert ended.code == 0, ended.err
    taken = {row["run"]: row["taken"] for row in ended.json["runs"]}
    assert not taken[str(spoilt)]
    assert ended.json["soup"]["miou"] >= max(row["miou"] for row in ended.json["runs"])
    whole = run("soup", *runs, spoilt, "-o", out, "-q")
    assert "below" in whole.out
    assert "try --greedy" in whole.out


def test_soups_that_make_no_sense_are_refused(
    run: Callable[..., Ended], trained: Trained, runs: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "soup.safetensors"
    other = save_checkpoint(tmp_path / "o.safetensors", Checkpoint(create_model("enet", 3), ClassSet(("a", "b", "c"))))
    assert run("soup", trained.run, other, "-o", out).refused("network of", "enet", "jetnet")
    assert run("soup", trained.run, "-o", out).refused("two or more")
    assert run("soup", trained.run, trained.run, "-o", out).refused("given twice")
    assert run("soup", *runs, "-o", tmp_path / "soup.onnx").refused(".safetensors")
    assert run("soup", trained.run, tmp_path / "none", "-o", out).refused("none does not exist")
    assert not out.exists()
    out.write_bytes(b"mine")
    assert run("soup", *runs, "-o", out, "-q").refused("not replaced")
    assert out.read_bytes() == b"mine"


def test_runs_of_other_data_are_pointed_out(run: Callable[..., Ended], runs: list[Path], tmp_path: Path) -> None:
    config = runs[1] / "config.toml"
    config.write_text(config.read_text().replace("val_count = 4", "val_count = 5"))
    ended = run("soup", *runs, "-o", tmp_path / "soup.safetensors")
    assert f"warning: {runs[1]} has other data than {runs[0]}" in ended.err


def test_a_training_starts_from_the_mean_of_several(
    run: Callable[..., Ended], runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mean = [(a + b) / 2 for a, b in zip(*(load_checkpoint(r).model.parameters() for r in runs), strict=True)]
    still = ("optim.lr=1e-12", "optim.warmup=0.0", "optim.weight_decay=0.0", "train.ema=0.0")
    starts = f'model.init=["{runs[0]}", "near"]'
    ended = run("train", *TINY, *still, starts, f"out={tmp_path}", "name=on", "-q")
    assert ended.code == 0, ended.err
    trained = load_checkpoint(tmp_path / "on").model.parameters()
    assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(trained, mean, strict=True))
    assert str(tmp_path / "near") in (tmp_path / "on" / "config.toml").read_text()  # means the same from every folder
