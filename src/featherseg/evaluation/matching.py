"""Which class of a network is which class of the data, where they are not the same in the same order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, did_you_mean, first_line
from ..core.text_files import parse_toml, read_text
from ..core.types import ClassSet
from ..data.class_maps import REST, ClassMap, Relabelled, parse_map
from ..data.datasets import SegmentationDataset


@dataclass(frozen=True)
class Matched:
    """Data and predictions with the same class ids.

    Args:
        dataset: its targets.
        predictions: id in the data by id of the network, uint8 (256,), 255 for none; None where they are the same.
        rule: what was done, to stand in the protocol; empty where it was nothing.
    """

    dataset: SegmentationDataset
    predictions: NDArray[np.uint8] | None = None
    rule: str = ""


def match_classes(network: ClassSet, dataset: SegmentationDataset, class_map: ClassMap | None = None) -> Matched:
    """Match a network's classes with the data's: by their names, or as a map says.

    Args:
        network: its classes.
        dataset: the data.
        class_map: the network's classes by each of the data's, see :func:`read_map`.

    Raises:
        ConfigError: the data have a class that the network lacks, or the map names one that there is not.
    """
    if class_map is not None:
        return _mapped(network, dataset, class_map)
    ours, theirs = network.names, dataset.classes.names
    if ours == theirs:
        return Matched(dataset)
    if set(ours) == set(theirs):
        table = np.full(256, dataset.classes.ignore_index, np.uint8)
        table[: len(ours)] = [theirs.index(name) for name in ours]
        return Matched(dataset, table, "classes matched by name, since the network has them in another order")
    first, where = next(((name, "data") for name in theirs if name not in ours), ("", ""))
    if not first:
        first, where = next(name for name in ours if name not in theirs), "network"
    raise ConfigError(
        f"the data's classes are not the network's: {first!r} of the {where} is not there in the other's; evaluate on "
        "data with its classes, or say with --map FILE which of its classes are which of the data's"
    )


def read_map(file: Path) -> ClassMap:
    """Read which classes of a network are which of the data's: TOML with a key for each class of the data.

    Such as ``Car = ["car", "truck", "bus"]`` for a network of Cityscapes' classes on CamVid; ``"*"`` stands for all
    classes of the network that are not named.

    Raises:
        ConfigError: it is missing or no such file.
    """
    try:
        section = parse_toml(read_text(file))
        return parse_map(section, str(file))
    except OSError as error:
        raise ConfigError(f"map {file} cannot be read ({error.strerror}); check the path") from error
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        reason = first_line(error)
        raise ConfigError(f'map {file} cannot be read ({reason}); it needs lines such as Car = ["car"]') from error


def _mapped(network: ClassSet, dataset: SegmentationDataset, class_map: ClassMap) -> Matched:
    classes, place = dataset.classes, class_map.place
    if class_map.ignored:
        raise ConfigError(f"{place} ignores {class_map.ignored[0]!r}; what a network predicts counts: leave it out")
    table = np.full(256, classes.ignore_index, np.uint8)
    for key, words in class_map.made.items():
        if key not in classes.names:
            raise ConfigError(f"{place} has {key!r}, no class of the data; {did_you_mean(key, classes.names)}")
        for word in words:
            if word != REST and word not in network.names:
                known = did_you_mean(str(word), network.names)
                raise ConfigError(f"{place} has {word!r} in {key}, no class of the network; {known}")
        if REST in words:
            named = {word for others in class_map.made.values() for word in others}
            words = (*words, *(name for name in network.names if name not in named))
        table[[network.names.index(str(word)) for word in words if word != REST]] = classes.index(key)
    unscored = [name for name in classes.names if name not in class_map.made]
    labels = tuple(classes.ignore_index if name in unscored else i for i, name in enumerate(classes.names))
    parts = [f"classes as {place} maps them"]
    parts += [f"not scored: {', '.join(unscored)}"] * bool(unscored)
    if wrong := [name for i, name in enumerate(network.names) if table[i] == classes.ignore_index]:
        parts.append(f"always wrong: {', '.join(wrong)}")
    return Matched(Relabelled(dataset, classes, labels), table, "; ".join(parts))
