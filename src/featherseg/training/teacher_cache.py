"""A teacher's logits on disk, so that runs over the same samples ask the teacher once.

Samples are functions of seed, epoch and index: a second student with the same seed and augmentation, another try with
other weights, or a resumed run meet the very same images. They are found by their content, whatever made them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..core.errors import ConfigError
from ..core.files import write_atomically
from .teacher import Maps, Teacher


class CachedTeacher(Teacher):
    """A teacher that looks on disk first. Its maps are rounded to float16, whether they were there or not.

    Each batch is one file, named after a hash of the images and of the teacher; it appears whole or not at all, so
    processes and runs may share the folder.

    Args:
        teacher: asked where nothing is there.
        folder: of the files; made when the first is written.
        maps: names of the maps to keep, such as ``"out"``; the teacher's others are left out.

    Raises:
        ConfigError: the teacher is no module, so that nothing tells its files from another's.
    """

    def __init__(self, teacher: Teacher, folder: str | Path, maps: frozenset[str] = frozenset({"out"})) -> None:
        if teacher.module is None:
            raise ConfigError(
                "the teacher is a plain callable, whose answers cannot be told from another's; do not cache"
            )
        self.teacher, self.folder, self.maps = teacher, Path(folder).expanduser(), maps
        self.classes, self.input_spec, self.network = teacher.classes, teacher.input_spec, teacher.network
        self._identity = _identity(teacher, maps)

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Maps:
        """Return the kept maps of an image that is normalised for the teacher, float16, on the image's device."""
        content = image.detach().to("cpu", torch.float32).contiguous()
        digest = hashlib.blake2b(self._identity, digest_size=20)
        digest.update(str(tuple(content.shape)).encode())
        digest.update(content.numpy().data)
        path = self.folder / digest.hexdigest()[:2] / f"{digest.hexdigest()}.safetensors"
        found = _read(path)
        if found is None or not self._are_answers(found, len(image)):
            maps = self.teacher(image)
            found = {name: maps[name].to("cpu", torch.float16).contiguous() for name in self.maps}
            text = save(found)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda file: file.write(text))
        return {name: x.to(image.device) for name, x in found.items()}

    def _are_answers(self, found: Maps, count: int) -> bool:
        """Return whether maps from a file are of the kind that this object writes, of `count` images."""
        return set(found) == self.maps and all(
            x.dtype == torch.float16 and x.ndim == 4 and len(x) == count for x in found.values()
        )


def _identity(teacher: Teacher, maps: frozenset[str]) -> bytes:
    """Return what tells one teacher's files from another's: weights, normalisation, classes and maps."""
    digest = hashlib.blake2b(repr((teacher.classes.names, teacher.input_spec, sorted(maps))).encode(), digest_size=20)
    assert teacher.module is not None
    for name, tensor in teacher.module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.digest()


def _read(path: Path) -> Maps | None:
    """Return the maps in a file, or None where it is missing or damaged."""
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError):
        return None
