"""featherseg's own folder: ``images/``, ``masks/`` and ``classes.toml``."""

from __future__ import annotations

from collections.abc import Sequence

import tomli_w

from ...core.images import write_mask
from ...core.types import MaskArray
from ..writing import ConvertTarget, LabelWriter, Picture, masks_only, writers


@writers.register("folder")
class FolderWriter(LabelWriter):
    """Palette PNGs of class ids, a subfolder for each split; names, colours and the ignored id in ``classes.toml``."""

    def __init__(self, target: ConvertTarget) -> None:
        super().__init__(target)
        masks_only(target, "folder")
        self.names = target.classes.names

    def add(self, picture: Picture, mask: MaskArray) -> None:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        home = self.target.root / "masks" / picture.split
        write_mask(home / f"{picture.stem}.png", mask, self.target.classes)

    def finish(self) -> Sequence[str]:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        content = tomli_w.dumps(self.target.classes.to_dict())
        (self.target.root / "classes.toml").write_text(content, encoding="utf-8")
        return [f"ignored pixels have the value {self.target.classes.ignore_index}"]
