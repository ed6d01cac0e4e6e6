"""Published weights: the list, where files are looked for, and networks that start from them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conftest import Ended
from featherseg.core.errors import CheckpointError, ConfigError, DownloadError
from featherseg.core.files import sha256
from featherseg.models import published as module
from featherseg.models.factory import create_model, list_models
from featherseg.models.published import PUBLISHED, PublishedWeights, load_published, open_checkpoint, published
from file_server import Served, serving
from trainings import tiny_config


@pytest.fixture
def own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedWeights:
    """FDDWNet's entry, with the address of nothing and a file made here in a folder that the variable names."""
    entry = published("fddwnet", "cityscapes")
    torch.manual_seed(0)
    model = create_model("fddwnet", 19)
    folder = tmp_path / "weights" / "deep"
    folder.mkdir(parents=True)
    torch.save({"state_dict": theirs(model.state_dict())}, folder / entry.file)
    mine = dataclasses.replace(entry, sha256=sha256(folder / entry.file), bytes=(folder / entry.file).stat().st_size)
    monkeypatch.setattr(module, "PUBLISHED", (mine,))
    monkeypatch.setenv("FEATHERSEG_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("featherseg.models.converters.fddwnet.convert", lambda weights: dict(weights))
    return mine


def theirs(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in weights.items()}


def test_the_list_is_whole() -> None:
    for each in PUBLISHED:
        assert each.network in list_models()
        assert each.url.startswith("https://")
        assert len(each.sha256) == 64
        assert each.bytes > 1e5
        assert {19: "cityscapes", 21: "voc"}[len(each.classes)] == each.data
        assert each.score
        assert each.code
        assert each.terms
    assert len({each.sha256 for each in PUBLISHED}) == len(PUBLISHED)


def test_every_file_fills_its_network(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERSEG_WEIGHTS", str(shared / "weights"))
    for each in PUBLISHED:
        best = load_published(each)
        assert best.model.num_classes == len(each.classes)
        assert best.training["published"] == each.url


@pytest.mark.slow
def test_a_network_takes_them_and_other_classes_only_its_body(
    own_weights: PublishedWeights, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "featherseg")
    whole = create_model("fddwnet", 19, weights="cityscapes")
    start = load_published(own_weights).model.state_dict()
    assert all(torch.equal(tensor, start[name]) for name, tensor in whole.state_dict().items())
    assert caplog.messages == []
    torch.manual_seed(1)
    other = create_model("fddwnet", 5, weights="cityscapes")
    same = [name for name, tensor in other.state_dict().items() if tensor.shape == start[name].shape]
    assert all(torch.equal(other.state_dict()[name], start[name]) for name in same)
    assert "the class heads begin anew" in caplog.messages[0]


@pytest.mark.slow
def test_commands_open_them_by_name(own_weights: PublishedWeights, run: Callable[..., Ended], tmp_path: Path) -> None:
    assert open_checkpoint("fddwnet:cityscapes").classes == own_weights.classes
    (tmp_path / "map.toml").write_text('road = "road"\nbuilding = "building"\n')
    words = ("--kind", "synthetic", "--map", str(tmp_path / "map.toml"), "--size", "64x96", "--json")
    ended = run("eval", "fddwnet:cityscapes", *words)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["protocol"]["dataset"] == "synthetic"
    refused = run("eval", "fddwnet:voc", *words)
    assert refused.code == 2
    assert "no weights of fddwnet trained on 'voc'" in refused.err


def test_what_is_not_there_is_said(
    own_weights: PublishedWeights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for network, data, words in (
        ("jetnet", "cityscapes", "no weights of jetnet trained on 'cityscapes'.*networks with weights of cityscapes"),
        ("fddwnet", "citiscapes", 'fddwnet has cityscapes; did you mean "cityscapes"'),
    ):
        with pytest.raises(ConfigError, match=words):
            create_model(network, 19, weights=data)
    with pytest.raises(ConfigError, match="not the pruned one"):
        create_model("fddwnet", 19, weights="cityscapes", pruned={})
    file = tmp_path / "weights" / "deep" / own_weights.file
    file.write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="is another file than the published one"):
        load_published(own_weights)
    monkeypatch.setenv("FEATHERSEG_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="which is no folder"):
        load_published(own_weights)


def test_they_are_fetched_into_the_cache_once(
    own_weights: PublishedWeights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = (tmp_path / "weights" / "deep" / own_weights.file).read_bytes()
    monkeypatch.delenv("FEATHERSEG_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving(Served(content)) as served:
        entry = dataclasses.replace(own_weights, url=served.url)
        assert entry.local() is None
        path = entry.fetch()
        assert path.read_bytes() == content
        assert path.is_relative_to(tmp_path / "cache")
        assert entry.fetch() == path
        assert len(served.asked) == 1
    gone = dataclasses.replace(entry, sha256="0" * 64)
    with pytest.raises(DownloadError, match="cannot be fetched"):
        gone.fetch()


def test_a_training_starts_from_them(
    own_weights: PublishedWeights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from featherseg.training.fit import fit

    caplog.set_level("INFO", "featherseg")
    config = tiny_config(tmp_path, model={"name": "fddwnet", "init": "cityscapes"}, train={"epochs": 1})
    assert fit(config).epochs == 1
    kept = next(message for message in caplog.messages if "class heads keep" in message)
    assert "road" in kept
    assert "building" in kept


def test_the_command(run: Callable[..., Ended], own_weights: PublishedWeights) -> None:
    ended = run("weights", "--json")
    assert ended.code == 0, ended.err
    assert [entry["network"] for entry in ended.json] == ["fddwnet"]
    assert ended.json[0]["path"].endswith(own_weights.file)
    table = run("weights").out
    assert "75.9 mIoU on Cityscapes val" in table
    assert "here" in table
    assert run("weights", "fddwnet", "--fetch", "cityscapes").out.strip().endswith(own_weights.file)
    assert run("weights", "--fetch", "cityscapes").refused("wants a network before it")
    assert run("weights", "fdwnet").refused('did you mean "fddwnet"')
