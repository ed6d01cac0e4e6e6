"""What is shipped as a folder of its own inside the model folder, made from the main file.

A new kind is one function here, registered under the name that is both the target's and the folder's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.registry import Registry
from ..core.types import ImageArray
from ..web.page import write_page
from .repositories import write_ovms, write_triton


@dataclass(frozen=True)
class FolderSource:
    """What a folder is made from.

    Args:
        main: the main file of the model folder, proven.
        golden: RGB uint8 (H, W, 3), an image that may be given away.
        threads: threads to run the file with; None for all.
    """

    main: Path
    golden: ImageArray
    threads: int | None


@dataclass(frozen=True)
class FolderTarget:
    """One kind of folder.

    Args:
        name: what it is registered as, and the folder's name.
        says: what it is, for the model card.
        write: writes it: ``write(source, place)``.
    """

    name: str
    says: str
    write: Callable[[FolderSource, Path], object]

    def __call__(self, source: FolderSource, folder: Path) -> Path:
        """Write it into a model folder, and return its place."""
        place = folder / self.name
        self.write(source, place)
        return place


folder_targets: Registry[FolderTarget] = Registry("target")


def _write_web(source: FolderSource, place: Path) -> None:
    write_page(source.main, place, golden=source.golden, threads=source.threads)


folder_targets.register("web")(
    FolderTarget("web", "a page that runs the network in the browser, for any web server to serve", _write_web)
)
folder_targets.register("triton")(
    FolderTarget(
        "triton",
        "a model repository for Triton: tritonserver --model-repository=triton",
        lambda source, place: write_triton(source.main, place),
    )
)
folder_targets.register("ovms")(
    FolderTarget(
        "ovms",
        "a model repository for OpenVINO Model Server: ovms --config_path ovms/config.json",
        lambda source, place: write_ovms(source.main, place),
    )
)
