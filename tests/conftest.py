from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from featherseg.core import progress
from featherseg.core.machine import available_threads
from featherseg.models.base import SegmentationModel
from featherseg.models.factory import create_model, list_models, models
from featherseg.runtime import timing
from featherseg.scaling.cluster import AT_IMPORT
from trainings import tiny_config

torch.set_num_threads(1)
OF_RAY = {
    **AT_IMPORT,  # test files import Ray before the package can set it
    # Else Ray writes a token into the user's home. It reads this once in a process: a second Ray there that is told
    # otherwise refuses what its own parts send.
    "RAY_AUTH_MODE": "disabled",
    "RAY_worker_niceness": "0",  # 15 by default: beside other tests its workers would hardly run
}
os.environ.update(OF_RAY)

pytest_plugins = [
    "artifact_fixtures",
    "browsers",
    "export_fixtures",
    "int8_graphs",
    "model_folders",
    "street_page",
    "video_fixtures",
]

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def pytest_xdist_auto_num_workers() -> int:
    """As many processes as this one may use processors: each test computes with one thread."""
    return min(available_threads(), 8)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test leaves anything in the user's cache folder, or finds anything there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether progress and notes are shown is each test's own affair."""
    logger = logging.getLogger("featherseg")
    monkeypatch.setattr(progress, "_bars_are_shown", False)
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    monkeypatch.setattr(logger, "level", logger.level)


@contextmanager
def mounted_disk(place: Path, options: str) -> Iterator[Path]:
    """A file system such as ``"size=600k"`` at `place`; skips where this process may not mount one."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "featherseg-test", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a small file system")
    yield place
    # Lazily: a process that is just ending may hold a file on it.
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def shared() -> Path:
    """The real data and weights beside the project, which its licence keeps out of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the datasets and weights in {SHARED}")
    return SHARED


def street(index: int, size: tuple[int, int] = (48, 64)) -> tuple[np.ndarray, np.ndarray]:
    """Sky (0) over road (1) with a car (2) and, in every third, an ignored patch; colours follow the class."""
    rng = np.random.default_rng(index)
    height, width = size
    mask = np.zeros(size, np.uint8)
    mask[height // 2 :] = 1
    x = int(rng.integers(0, width - 16))
    mask[height // 2 - 6 : height // 2 + 6, x : x + 16] = 2
    if index % 3 == 0:
        mask[-4:, :8] = 255
    colors = np.zeros((256, 3), np.int64)
    colors[:3] = (120, 180, 240), (90, 90, 90), (200, 30, 30)
    image = np.clip(colors[mask] + rng.integers(-10, 11, (*size, 3)), 0, 255).astype(np.uint8)
    return image, mask


def street_photos(root: Path, count: int, size: tuple[int, int] = (96, 128)) -> Path:
    """A folder of images and masks: `count` of :func:`street`."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for i in range(count):
        image, mask = street(i, size)
        Image.fromarray(image).save(root / "images" / f"s{i}.png", compress_level=1)  # noise does not get smaller
        Image.fromarray(mask).save(root / "masks" / f"s{i}.png")
    return root


@pytest.fixture
def street_folder(tmp_path: Path) -> Path:
    """A `folder` dataset of ten street-like pictures with index masks and a class file."""
    root = street_photos(tmp_path / "street", 10, (48, 64))
    (root / "classes.toml").write_text('names = ["sky", "road", "car"]\n')
    return root


class TinyNet(SegmentationModel):
    """Encoder (conv, batch norm), class head and auxiliary head; stride 4."""

    name = "tiny"
    stride = 4

    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.options = {"width": width}
        self.encoder = nn.Sequential(nn.Conv2d(3, width, 3, stride=4, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Conv2d(width, num_classes, 1)
        self.aux_head = nn.Conv2d(width, num_classes, 1)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        x = self.encoder(image)
        maps = {"out": self.head(x), "x4": x}
        return maps | {"aux_4": self.aux_head(x)} if self.training else maps

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())


Tiny = Callable[..., TinyNet]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """A network that is registered for one test only, so that tests over `list_models` do not see it."""
    models.names()  # fills the table first
    monkeypatch.setitem(models._entries, "tiny", TinyNet)

    def build(num_classes: int = 3, **options: Any) -> TinyNet:
        torch.manual_seed(0)
        return TinyNet(num_classes, **options)

    return build


def batch(size: tuple[int, int] = (64, 72), *, ignored: bool = False) -> dict[str, Tensor]:
    """Two samples of three classes, made of noise; `ignored` leaves their upper halves unlabelled."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (2, 3, *size), generator=generator, dtype=torch.uint8)
    mask = torch.randint(0, 3, (2, *size), generator=generator)
    if ignored:
        mask[:, : size[0] // 2] = 255
    return {"image": image, "mask": mask}


FIRST_NETWORKS = {"enet", "fastsegnet", "jetnet", "lednet", "mobilenet_aspp", "resnet_unet"}
"""Networks in which every kind of operator occurs."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    f"fastsegnet at stride {stride}": ("fastsegnet", {"stride": stride}) for stride in (4, 2)
}
"""Networks that an option makes others: their registered name and the option."""
PRUNED_QUICKLY = {"enet", "fastsegnet", "fastsegnet at stride 2", "jetnet", "lednet"}
"""Networks that the quick suite prunes; the slow suite prunes all."""


@pytest.hookimpl(tryfirst=True)  # before marks choose what runs
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = (
            item.callspec.params.get("variant")
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else None
        )
        if name is not None and name not in PRUNED_QUICKLY and item.path.parent.name == "compress":
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=list_models())
def network_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[*list_models(), *VARIANTS])
def variant(request: pytest.FixtureRequest) -> str:
    """A registered network, or one of `VARIANTS`; :func:`create_variant` builds both."""
    return str(request.param)


def create_variant(variant: str, num_classes: int, **options: Any) -> SegmentationModel:
    name, own = VARIANTS.get(variant, (variant, {}))
    return create_model(name, num_classes, **own, **options)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines are timed at once, not after a rest."""
    monkeypatch.setattr(timing, "PAUSE", 0.0)


@dataclass(frozen=True)
class Trained:
    """A tiny run on synthetic streets, and the file exported from it. Shared by all tests: only to be read."""

    run: Path
    file: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from featherseg.data.datasets import create_dataset
    from featherseg.exporting.verify import export_verified
    from featherseg.models.checkpoint import load_checkpoint
    from featherseg.training.fit import fit

    config = tiny_config(
        tmp_path_factory.mktemp("trained"),
        "tiny",
        data={"options": {"count": 16, "val_count": 4, "size": [64, 96]}},
        optim={"lr": 1e-2},
        train={"epochs": 2},
    )
    run = fit(config, quiet=True).path
    val_set = create_dataset("synthetic", split="val", **config.data.options)
    export_verified(load_checkpoint(run), run / "jetnet.onnx", val_set)
    return Trained(run, run / "jetnet.onnx")


TINY = (
    "model.name=jetnet",
    "data.name=synthetic",
    "data.options={count=8, val_count=2, size=[64, 96]}",
    "data.batch_size=4",
    "data.workers=0",
    "augment.crop=[64, 96]",
    "train.epochs=1",
    "train.precision=fp32",
    "train.device=cpu",
)
"""Settings of a training that takes a second."""


@dataclass
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def refused(self, *words: str, code: int = 2) -> bool:
        """One line on standard error, and nothing on standard output."""
        assert self.out == ""
        assert self.err.startswith("error: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert self.code == code
        for word in words:
            assert word in self.err
        return True


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command line in this process: ``run("eval", path, "--json")``."""
    from featherseg.cli.main import main

    def call(*words: object) -> Ended:
        capfd.readouterr()
        code = 0
        handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two pictures of different sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    from featherseg.data.datasets import create_dataset

    street = create_dataset("synthetic", split="test", size=(64, 96))
    for i, size in enumerate([(96, 64), (70, 130)]):  # (width, height), as PIL has it
        Image.fromarray(street.read(i)[0]).resize(size).save(folder / f"photo{i}.png")
    return folder


def error_line(
    kind: type[Exception] | tuple[type[Exception], ...], call: Callable[..., object], *arguments: Any, **options: Any
) -> str:
    """Return the one line with which a call is refused."""
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def python(code: str, *words: object) -> str:
    """Run code in a process of its own, and return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", code, *map(str, words)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
