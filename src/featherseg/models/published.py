"""Weights that others trained and published: where they are, what they reach by whose measurement, and on what terms.

A file is looked for in the folder that ``FEATHERSEG_WEIGHTS`` names, then in the user's cache; else it is fetched from
its pinned address, and refused where its SHA-256 is another. Files are read with torch's restricted loader.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import CheckpointError, ConfigError, did_you_mean, first_line
from ..core.files import cache_folder, sha256
from ..core.progress import counting, logger
from ..core.types import ClassSet
from ..data.readers.public import CITYSCAPES_CLASSES, VOC_CLASSES
from .base import SegmentationModel
from .checkpoint import Checkpoint, load_checkpoint, load_weights
from .download import download
from .factory import create_model, models
from .transfer import start_from
from .weights import VARIABLE, weights_folder

ZH320 = "https://raw.githubusercontent.com/zh320/realtime-semantic-segmentation-pytorch/{commit}/weights/{file}"
ZH320_COMMIT = "1a32d68ec9a02b244d158d0512f93c6e45fe86b9"
EDGENETS = "https://raw.githubusercontent.com/sacmehta/EdgeNets/{commit}/model/segmentation/model_zoo/espnetv2/{file}"


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights.

    Args:
        network: registered name.
        data: what it was trained on, which is also how it is asked for.
        classes: what its channels mean.
        url: pinned address.
        bytes: size of the file.
        sha256: of the file, in hexadecimal digits.
        score: as its author states it, with the protocol.
        code: where its program is from, and that program's licence.
        terms: of the data.
        options: of the network.
    """

    network: str
    data: str
    classes: ClassSet
    url: str
    bytes: int
    sha256: str
    score: str
    code: str
    terms: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[1]

    def local(self) -> Path | None:
        """Return where the file is on this machine, if it is; what it holds is looked at when it is used."""
        if (folder := weights_folder()) is not None:
            found = next((path for path in sorted(folder.rglob(self.file)) if path.is_file()), None)
            if found is not None:
                return found
        cached = self._cached()
        return cached if cached is not None and cached.is_file() else None

    def fetch(self) -> Path:
        """Return the file, from this machine or its address.

        Raises:
            DownloadError: it cannot be fetched, or is not what it should be.
            CheckpointError: what is here under its name is another file.
            ConfigError: there is no folder to put it in.
        """
        if (found := self.local()) is not None:
            if (digest := sha256(found)) != self.sha256:
                raise CheckpointError(
                    f"{found} is another file than the published one (SHA-256 {digest[:12]}…, not "
                    f"{self.sha256[:12]}…); remove it, and it is fetched again"
                )
            return found
        path = self._cached()
        if path is None:
            raise ConfigError(f"there is no home folder to keep {self.file} in; name a folder in {VARIABLE}")
        with counting(f"fetch {self.file}", self.bytes) as progress:
            return download(self.url, path, size=self.bytes, sha256=self.sha256, progress=progress)

    def _cached(self) -> Path | None:
        folder = cache_folder()
        return folder / "weights" / f"{self.sha256[:12]}-{self.file}" if folder else None


def _cityscapes(network: str, file: str, size: int, sha256: str, score: float) -> PublishedWeights:
    return PublishedWeights(
        network,
        "cityscapes",
        CITYSCAPES_CLASSES,
        ZH320.format(commit=ZH320_COMMIT, file=f"{file}_crop-1024_800epoch.pth"),
        size,
        sha256,
        f"{score:.1f} mIoU on Cityscapes val, 1024x2048, single scale (the author's)",
        "zh320/realtime-semantic-segmentation-pytorch, Apache 2.0",
        "Cityscapes: research, non-commercial",
    )


def _voc(scale: float, commit: str, size: int, sha256: str) -> PublishedWeights:
    return PublishedWeights(
        "espnetv2_edge",
        "voc",
        VOC_CLASSES,
        EDGENETS.format(commit=commit, file=f"espnetv2_s_{scale}_pascal_384x384.pth"),
        size,
        sha256,
        "not stated for this file; trained on PASCAL VOC 2012 with COCO at 384x384",
        "sacmehta/EdgeNets, MIT",
        "PASCAL VOC and COCO images: Flickr's terms",
        {"scale": scale},
    )


# Sizes and digests of the files at the pinned commits; scores are the best validation mIoU that each file states.
PUBLISHED: tuple[PublishedWeights, ...] = (
    _cityscapes(
        "fddwnet",
        "fddwnet",
        3_567_667,
        "eb69e3c8e2879c4f3c57cabff38dbda8014e00ac61ee041094424b0afbd51978",
        75.9,
    ),
    _cityscapes(
        "fpenet",
        "fpenet",
        1_693_547,
        "8afd1f14a6e3c4fee1609281a47459a924a78f7fd30b246cf553c2ce499ece09",
        72.0,
    ),
    _cityscapes(
        "mininetv2",
        "mininetv2",
        2_263_517,
        "e9ed01276bfc8897423355098a32d221e580728899ff1b8abedb9ee1965f8498",
        71.8,
    ),
    _cityscapes(
        "enet",
        "enet",
        1_660_549,
        "a2813d0505a689c80e84f49c218a853b7bf37c70b862b81ccfae58ec6dd138be",
        71.3,
    ),
    _cityscapes(
        "dabnet",
        "dabtnet",
        3_184_616,
        "90c46560b346bad8b55fe4574c35d98fec481cd1a741e86e0b00ec282030bfaa",
        70.8,
    ),
    _cityscapes(
        "edanet",
        "edanet",
        2_861_615,
        "0129644e541605290363bfb2f950a230772cb9a06c94e529754253a17593d08f",
        70.8,
    ),
    _cityscapes(
        "espnetv2",
        "espnetv2",
        3_808_875,
        "933ee09e577e43acb177969dd1abd24c9f7058db7dd096bd61cc69bf7630de1f",
        70.4,
    ),
    _cityscapes(
        "cfpnet",
        "cfpnet",
        1_661_525,
        "37790d466a60814ca07e8ed90f105652b5511d7f7cb3c9d08cbf4843bab71f3d",
        70.1,
    ),
    _cityscapes(
        "cgnet",
        "cgnet",
        1_084_778,
        "e54559f1249ed374625567ee3f027bb3d85806fbc5ad7b9068c386d1bd279465",
        67.3,
    ),
    _voc(
        2.0,
        "5976d678ee754b846d09485f2fbd059e6f30883b",
        3_376_138,
        "bc479586b0ba9254e02589020346931a14d99028ad6bac4817198be6d9e719a6",
    ),
    _voc(
        1.0,
        "3c28cce4de707ad4ad9732ebfc7e11a05e99359b",
        1_107_734,
        "7ce2df106b62661a4e8e30098398d6b96a2a946b9546d2287500379f984301a8",
    ),
)


def published(network: str, data: str, options: Mapping[str, Any] | None = None) -> PublishedWeights:
    """Return the weights of a network that were trained on `data`.

    Args:
        network: registered name.
        data: such as ``"cityscapes"``.
        options: of the network; where several files fit the name, the one of these options is meant.

    Raises:
        ConfigError: there are none; the message says what there is.
    """
    network = models.spelled(network) or network
    fitting = [each for each in PUBLISHED if (each.network, each.data) == (network, data)]
    if not fitting:
        of_network = sorted({each.data for each in PUBLISHED if each.network == network})
        of_data = sorted({each.network for each in PUBLISHED if each.data == data})
        if of_data:
            there = f"networks with weights of {data}: {', '.join(of_data)}"
        else:
            there = did_you_mean(data, {each.data for each in PUBLISHED})
        own = f"; {network} has {', '.join(of_network)}" if of_network else ""
        raise ConfigError(f"no weights of {network} trained on {data!r} are published here{own}; {there}")
    given = dict(options or {})
    for each in fitting:
        if all(each.options.get(key, value) == value for key, value in given.items()):
            return each
    shown = "; ".join(", ".join(f"{key}={value}" for key, value in each.options.items()) for each in fitting)
    raise ConfigError(f"the published weights of {network} are for options {shown}; the network has {given}")


def is_published(data: str) -> bool:
    """Return whether weights trained on `data` are published for some network; what else starts a run is a path."""
    return any(each.data == data for each in PUBLISHED)


def open_checkpoint(source: str | Path) -> Checkpoint:
    """Return the network that a run folder or weights file holds, or a published one by its name.

    Args:
        source: path; or network and data, such as ``"fddwnet:cityscapes"``. A path of that name comes first.

    Raises:
        ConfigError: no such weights are published.
        DownloadError: published weights are not here and cannot be fetched.
        CheckpointError: it is missing, damaged or not featherseg's.
    """
    network, colon, data = str(source).partition(":")
    if colon and (network in models or is_published(data)) and not Path(source).exists():
        return load_published(published(network, data))
    return load_checkpoint(Path(source).expanduser())


def load_published(weights: PublishedWeights) -> Checkpoint:
    """Return a network with published weights, fetched where they are not here yet.

    Raises:
        DownloadError: the file is not here and cannot be fetched.
        CheckpointError: it cannot be read, or is not the network's.
    """
    path = weights.fetch()
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        tensors: Mapping[str, Tensor] = content.get("state_dict", content)
        converter = importlib.import_module(f"{__package__}.converters.{weights.network}")
        ours: dict[str, Tensor] = converter.convert(tensors)
    except CheckpointError:
        raise
    except Exception as error:  # a torn file fails in many ways
        raise CheckpointError(f"weights {path} cannot be read ({first_line(error)}); remove the file") from error
    model = create_model(weights.network, len(weights.classes), **weights.options)
    load_weights(model, ours, path)
    training = {"dataset": weights.data, "split": "train", "published": weights.url, "score": weights.score}
    return Checkpoint(model.eval(), weights.classes, training)


def fill_published(model: SegmentationModel, data: str) -> None:
    """Fill a network, in place, with the published weights that were trained on `data`.

    With another number of classes than theirs the class heads stay as they are, and it is logged.

    Raises:
        ConfigError: there are no such weights.
        DownloadError, CheckpointError: they are not to be had, or cannot be used.
    """
    start = load_published(published(model.name, data, model.options))
    same = len(start.classes) == model.num_classes
    names = start.classes.names if same else tuple(f"class_{i}" for i in range(model.num_classes))
    if kept := start_from(model, start, ClassSet(names), Path(data)):
        logger.info(kept)
