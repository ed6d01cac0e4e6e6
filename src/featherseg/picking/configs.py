"""The training of each network: as one on the folder alone would be chosen, from the best start there is for it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ..core.config import Config
from ..core.errors import DataError, DownloadError, FeathersegError
from ..core.files import write_atomically
from ..core.progress import hidden
from ..core.recipes import config_to_toml, load_config
from ..core.types import ClassSet
from ..data.class_maps import open_mapped
from ..data.datasets import SegmentationDataset
from ..models.factory import create_model, models
from ..models.published import PUBLISHED, PublishedWeights
from ..training.given import overrides
from ..training.known_classes import Match, best_match
from ..training.quickstart import quick_start
from ..training.starts import START_SHARE
from .candidates import Net, Variant

PLAIN = {"fastsegnet": {"width": 1.0, "stride": 8}}
"""Options that a training on a folder would choose itself, where a variant leaves them out."""


def open_data(config: Config) -> tuple[SegmentationDataset, SegmentationDataset]:
    """Open the training and the validation images of a configuration.

    Raises:
        DataError: there are none of either.
    """
    data = config.data
    opened = []
    for split, what in ((data.train_split, "training"), (data.val_split, "validation")):
        try:
            opened.append(open_mapped(data.name, data.root, split, data.classes, **data.options))
        except DataError as error:
            raise DataError(f"{data.root} has no {what} images that a pick could use ({error})") from error
    return opened[0], opened[1]


class NetConfigs:
    """Configurations of trainings, chosen once for each network and kept as recipes.

    Args:
        folder: of the data.
        settings: of the user's.
        seed: of the trainings.
        place: folder to keep recipes in.
        frame: (height, width) of the pictures.
        classes: of the data.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: tuple[str, ...],
        seed: int,
        place: Path,
        frame: tuple[int, int],
        classes: ClassSet,
    ) -> None:
        self.folder, self.settings, self.seed = folder, settings, seed
        self.place, self.frame = place, frame
        self._match = best_match(classes)

    def get(self, net: Net) -> Config:
        """Return the usual training of a network.

        Raises:
            FeathersegError: none can be chosen.
        """
        path = self.place / f"{net.slug}.toml"
        if path.is_file():
            return load_config(path)
        with hidden():
            config = quick_start(self.folder, [*self.settings, *overrides(self._model(net))]).config
        config = msgspec.structs.replace(config, seed=self.seed)
        text = config_to_toml(config)
        write_atomically(path, lambda file: file.write(text.encode()))
        return config

    def _model(self, net: Net) -> dict[str, Any]:
        """Return the settings of a network and of what it starts from."""
        variant = net.variant
        options = PLAIN.get(variant.network, {}) | dict(variant.options)
        section: dict[str, Any] = {"name": variant.network, "long_side": net.long_side(self.frame) or 0}
        if takes_encoder_weights(variant):
            with suppress(FeathersegError):
                create_model(variant.network, 2, **options, encoder_weights="imagenet")
                options = options | {"encoder_weights": "imagenet"}
        section["options"] = options or None
        chosen: dict[str, Any] = {"model": section}
        if (found := self._published(variant)) is not None:
            weights, match = found
            section |= {"init": weights.data, "init_classes": dict(match.table) or None}
            if match.matched == match.total:
                chosen["train"] = {"start_share": START_SHARE}
        return chosen

    def _published(self, variant: Variant) -> tuple[PublishedWeights, Match] | None:
        """Return weights of others that know the classes, where there are any of the network to be had."""
        if self._match is None:
            return None
        for weights in _fitting(variant, self._match.known.data):
            with suppress(DownloadError, FeathersegError):
                weights.fetch()
                return weights, self._match
        return None


def takes_encoder_weights(variant: Variant) -> bool:
    """Return whether a network's encoder may start from ImageNet's weights."""
    return "encoder_weights" in inspect.signature(models.get(variant.network)).parameters


def _fitting(variant: Variant, data: str) -> Iterator[PublishedWeights]:
    """Yield the published weights of a network with just these options."""
    usual = {
        name: parameter.default
        for name, parameter in inspect.signature(models.get(variant.network)).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    mine = usual | dict(variant.options)
    for weights in PUBLISHED:
        if (weights.network, weights.data) == (variant.network, data) and all(
            mine.get(key) == value for key, value in weights.options.items()
        ):
            yield weights


def describe_start(config: Config) -> str:
    """Return what a training starts from, in words."""
    if config.model.starts:
        return f"{' + '.join(config.model.starts)} weights"
    return "ImageNet's weights" if config.model.options.get("encoder_weights") else "random weights"
