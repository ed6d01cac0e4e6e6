"""`featherseg prune` and `featherseg quantize`; `ship` has a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conftest import TINY, Ended, Trained
from featherseg.core.recipes import load_config
from featherseg.models.checkpoint import load_checkpoint


def test_pruning_prints_its_plan_and_the_result_trains_on(
    run: Callable[..., Ended], trained: Trained, tmp_path: Path
) -> None:
    weights = tmp_path / "pruned.safetensors"
    ended = run("prune", trained.run, "--ratio", "0.3", "--size", "64x96", "-o", weights)
    assert ended.code == 0, ended.err
    assert " → " in ended.out
    assert "GMACs at 64x96" in ended.out
    pruned = load_checkpoint(weights).model
    again = run("train", *TINY, f"out={tmp_path}", "name=again", f"model.init={weights}", "-q", "--json")
    assert again.code == 0, again.err
    best = load_checkpoint(tmp_path / "again").model
    assert best.options == pruned.options
    assert load_config(tmp_path / "again" / "config.toml").model.options["pruned"] == pruned.options["pruned"]
    weights.unlink()  # what is resumed needs it no more
    config = tmp_path / "again" / "config.toml"
    config.write_text(config.read_text().replace("epochs = 1", "epochs = 2"))
    assert run("train", "--resume", tmp_path / "again", "-q").code == 0


def test_pruning_refuses(run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
    assert run("prune", trained.run, "--ratio", "1.5", "-o", tmp_path / "a.safetensors").refused("ratio is 1.5")
    assert run("prune", trained.run, "-o", tmp_path / "a.onnx").refused(".safetensors")
    assert run("prune", trained.run, "--ratio", "0.3", "--gmacs", "0.1").refused("ratio", "target_gmacs")
    weights = tmp_path / "pruned.safetensors"
    assert run("prune", trained.run, "-o", weights).code == 0
    other = run("train", *TINY, "model.name=lednet", f"out={tmp_path}", f"model.init={weights}", "-q")
    assert other.refused("set model.name=jetnet")


def test_quantising_an_exported_file(run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    words = ("--max-drop", "0.9", "--calibration", "4", "--threads", "1")
    ended = run("quantize", trained.file, *words, "-o", path, "--json", "-q")
    assert ended.code == 0, ended.err
    assert path.stat().st_size < 0.5 * trained.file.stat().st_size
    assert ended.json["drop"] == ended.json["miou_fp32"] - ended.json["miou"]
    text = run("quantize", trained.file, *words, "-o", path, "-q").out
    assert "points of IoU lost" in text
    assert run("quantize", path, *words, "-o", tmp_path / "twice.onnx", "-q").refused("int8.onnx")
    assert run("quantize", tmp_path / "none.onnx").refused("none.onnx")
