"""Masks as pre-annotations in the files of the programs that people label with."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path

from ..core.errors import ConfigError, did_you_mean
from ..core.files import TEMPORARY
from ..core.outputs import Outputs
from ..core.types import ClassSet, MaskArray
from ..data.writing import ConvertTarget, LabelWriter, Picture, writers

FILES: dict[str, dict[str, str]] = {
    "cvat": {"cvat.zip": ""},
    "labelstudio": {"labelstudio.json": "tasks.json", "labelstudio.xml": "label_config.xml"},
    "coco": {"coco.json": "annotations/instances.json"},
}
"""For each program the files that it is given, and what the writer of its format calls them; empty: all in one."""
NOTES = {
    "cvat": "cvat.zip: upload it as annotations, format Segmentation mask 1.1, to a task of the same images whose "
    "labels are called as in its labelmap.txt; unsure pixels are labelled ignored there",
    "labelstudio": "labelstudio.json: import it into a project whose labelling interface is labelstudio.xml; images "
    "are /data/local-files/?d=images/NAME, so serve their folder as images/ below the document root; unsure pixels are "
    "labelled __ignore__",
    "coco": "coco.json: image files by their names within the folder; unsure pixels are a crowd (iscrowd = 1)",
}
"""What a person does with each."""
WHEN = (1980, 1, 1, 0, 0, 0)
"""Date of what is in an archive, the earliest that there is: the same masks make the same file."""


def check_programs(names: Iterable[str]) -> tuple[str, ...]:
    """Return the programs that exports are for, each once.

    Raises:
        ConfigError: one is unknown.
    """
    found = tuple(dict.fromkeys(names))
    for name in found:
        if name not in FILES:
            raise ConfigError(f"label writes nothing for {name!r}; {did_you_mean(name, FILES)}")
    return found


def write_exports(
    programs: Sequence[str],
    pictures: Callable[[], Iterable[tuple[Picture, MaskArray]]],
    classes: ClassSet,
    out: Path,
    outputs: Outputs,
    *,
    polygons: bool = False,
) -> list[str]:
    """Write the files of each program into `out`; return what a person does with them, a sentence each.

    Args:
        programs: of :data:`FILES`.
        pictures: yields each picture with its class ids.
        classes: what the ids stand for.
        out: folder.
        outputs: keeps a person's files.
        polygons: outlines instead of bitmaps where the program takes both.

    Raises:
        DataError: a class has a name that the format cannot say.
    """
    notes: list[str] = []
    for program in programs:
        with tempfile.TemporaryDirectory(dir=out, prefix=TEMPORARY) as place:
            target = ConvertTarget(Path(place), classes, ("",), polygons and program != "cvat")
            writer: LabelWriter = writers.create(program, target)
            for picture, mask in pictures():
                writer.add(picture, mask)
            writer.finish()
            notes.append(NOTES[program])
            for name, made in FILES[program].items():
                content = (target.root / made).read_bytes() if made else _archive(target.root)
                outputs.write(out / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return notes


def _archive(root: Path) -> bytes:
    """Return a ZIP of the files in a folder."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            about = zipfile.ZipInfo(path.relative_to(root).as_posix(), WHEN)
            about.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(about, path.read_bytes())
    return stream.getvalue()
