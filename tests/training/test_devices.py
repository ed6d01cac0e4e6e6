"""Which device, processes and batch norms a training gets, as far as a machine without GPUs can tell."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from featherseg.core.config import TrainConfig
from featherseg.core.errors import ConfigError
from featherseg.core.recipes import load_config
from featherseg.core.types import ClassSet
from featherseg.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from featherseg.models.factory import create_model, list_models
from featherseg.training.devices import create_fabric, synchronize_batchnorm, wants_sync_batchnorm
from featherseg.training.optim import build_ema, build_optimizer
from trainings import tiny_config

LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)


def by_torchrun(monkeypatch: pytest.MonkeyPatch, processes: int, nodes: int = 1) -> None:
    for name, value in {
        "RANK": 0,
        "LOCAL_RANK": 0,
        "GROUP_RANK": 0,
        "WORLD_SIZE": processes * nodes,
        "LOCAL_WORLD_SIZE": processes,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": 29500,
        "TORCHELASTIC_RUN_ID": "x",
    }.items():
        monkeypatch.setenv(name, str(value))


def config(**options: Any) -> TrainConfig:
    return TrainConfig(**{"device": "cpu", "precision": "fp32", **options})


@pytest.mark.parametrize(("processes", "nodes"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_the_world_is_torchruns(monkeypatch: pytest.MonkeyPatch, processes: int, nodes: int) -> None:
    by_torchrun(monkeypatch, processes, nodes)
    fabric = create_fabric(config())
    assert fabric.world_size == processes * nodes
    assert fabric.device.type == "cpu"


@pytest.mark.parametrize("tasks", ["1", "4"])
def test_a_schedulers_variables_are_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch, tasks: str) -> None:
    """A batch script may ask for several tasks, say to get processors, and start one training."""
    variables = {"NTASKS": tasks, "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NAME": "seg", "JOB_ID": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    fabric = create_fabric(config())
    fabric.launch()
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


def test_processes_started_by_srun_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(ConfigError, match=r"srun started 4 processes .* one torchrun per node") as caught:
        create_fabric(config())
    assert "\n" not in str(caught.value)
    by_torchrun(monkeypatch, 2, nodes=4)
    assert create_fabric(config()).world_size == 8


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    by_torchrun(monkeypatch, 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="torchrun started 4 processes for 2 GPUs"):
        create_fabric(config(device="cuda"))


@pytest.mark.parametrize(
    ("setting", "processes", "device", "wanted"),
    [
        ("auto", 1, "cuda", False),
        ("auto", 2, "cuda", True),
        ("auto", 2, "cpu", False),
        ("on", 1, "cuda", False),  # one process has nothing to share
        ("on", 2, "cuda", True),
        ("off", 2, "cuda", False),
    ],
)
def test_who_shares_batch_norm(setting: Any, processes: int, device: str, wanted: bool) -> None:
    fabric: Any = SimpleNamespace(world_size=processes, device=torch.device(device))
    assert wants_sync_batchnorm(TrainConfig(sync_batchnorm=setting), fabric) == wanted


def test_sharing_on_cpus_is_refused_since_torch_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    assert create_fabric(config(sync_batchnorm="on")).world_size == 1
    by_torchrun(monkeypatch, 2)
    with pytest.raises(ConfigError, match=r"train\.sync_batchnorm is 'on', which torch has for GPUs, not for cpu"):
        create_fabric(config(sync_batchnorm="on"))
    create_fabric(config(sync_batchnorm="auto"))
    with pytest.raises(ConfigError, match="choose auto, on, off"):
        load_config(None, ["train.sync_batchnorm=maybe"])


def norms(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


CASES = [(name, {}) for name in list_models()] + [
    ("resnet_unet", {"encoder": "efficientnet_b0"}),  # its layers hold batch norm and activation in one
    ("resnet_unet", {"encoder": "mobilenetv3_large_100"}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_network_computes_the_same_and_its_weights_fit_the_plain_one(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    plain = create_model(name, 5, **options)
    image = torch.randn(2, 3, 64, 96)
    plain.train()(image)  # running statistics other than those at the start
    shared = copy.deepcopy(plain)
    rates = [len(group["params"]) for group in build_optimizer(plain, load_config().optim).param_groups]
    synchronize_batchnorm(shared)
    assert norms(shared)
    assert all(isinstance(layer, nn.SyncBatchNorm) for layer in norms(shared))
    assert [len(group["params"]) for group in build_optimizer(shared, load_config().optim).param_groups] == rates
    assert list(shared.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(shared.eval()(image), plain.eval()(image))
        torch.manual_seed(1)  # of dropout
        ours = shared.train()(image)
        torch.manual_seed(1)
        theirs = plain.train()(image)
    torch.testing.assert_close(ours, theirs)  # in one process it is plain batch norm
    plain.load_state_dict(shared.state_dict())


def test_average_and_checkpoint_of_a_shared_network_are_plain(tmp_path: Any) -> None:
    torch.manual_seed(0)
    model = create_model("fastsegnet", 3, width=0.5)
    synchronize_batchnorm(model)
    ema = build_ema(model, 0.9)
    model.train()(torch.randn(2, 3, 64, 64))
    ema.update_parameters(model)
    network: Any = ema.module
    save_checkpoint(tmp_path / "best.safetensors", Checkpoint(network, ClassSet(("a", "b", "c"))))
    loaded = load_checkpoint(tmp_path).model
    assert norms(loaded)
    assert not any(isinstance(layer, nn.SyncBatchNorm) for layer in norms(loaded))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(loaded(image), network.eval()(image))


def test_the_trainer_shares_what_it_shall(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from featherseg.training import step, trainer
    from featherseg.training.fit import fit

    monkeypatch.setattr(step, "wants_sync_batchnorm", lambda config, fabric: True)
    seen = []
    score = trainer.Trainer._score

    def look(self: Any, *words: Any, **options: Any) -> Any:
        seen.append({type(layer) for network in (self.setup.objective.model, self.network) for layer in norms(network)})
        return score(self, *words, **options)

    monkeypatch.setattr(trainer.Trainer, "_score", look)
    run = fit(tiny_config(tmp_path / "shared", train={"epochs": 1}), quiet=True)
    assert seen[0] == {nn.SyncBatchNorm}
    monkeypatch.undo()
    plain = fit(tiny_config(tmp_path / "plain", train={"epochs": 1}), quiet=True)
    ours, theirs = (load_checkpoint(result.path).model.state_dict() for result in (run, plain))
    for key in theirs:
        torch.testing.assert_close(ours[key], theirs[key])
