"""The command that writes labels in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .app import Json, Quiet, app


@app.command
def convert(
    source: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="New folder to write to.")],
    to: Annotated[str, Parameter(help="Format: folder, coco, yolo, cvat, labelstudio or labelme.")],
    kind: Annotated[str | None, Parameter(help="Dataset kind; by default inferred from the layout.")] = None,
    images: Annotated[str | None, Parameter(help="Which files are images: a folder, or a pattern.")] = None,
    masks: Annotated[str | None, Parameter(help="Which files are masks, where there are several sets.")] = None,
    split: Annotated[str | None, Parameter(help="The one split to convert; by default all.")] = None,
    polygons: Annotated[
        bool,
        Parameter(
            help="Write outlines where masks could be held too (coco, labelstudio, labelme).", show_default=False
        ),
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write labelled images in another format, read them back, and compare them with the source pixel for pixel.

    For example:

        featherseg convert photos -o photos_coco --to coco
        featherseg convert cvat_export -o street --to folder

    Nothing of the source is changed, and no folder appears where a class would lose pixels.

    Args:
        source: folder of the data, of any kind that featherseg data lists.
    """
    from ..core.progress import counting, show_progress
    from ..data.convert import convert as convert_data
    from ..data.convert import require_new, share_rows
    from ..data.datasets import create_dataset
    from ..data.writing import writers
    from ..doctor.infer import infer_data
    from .tables import print_json, print_table, print_text

    show_progress(not quiet)
    writers.get(to)  # before minutes of looking at files
    require_new(out, source)
    found = infer_data(source, kind, {key: word for key, word in (("images", images), ("masks", masks)) if word})
    chosen = [split] if split is not None else sorted(found.splits, key=_order)
    datasets = {name: create_dataset(found.kind, found.root, name, **found.options) for name in chosen}
    with counting("converting") as update:
        result = convert_data(datasets, out, to, polygons=polygons, progress=update)
    notes = [*(f"source: {note}" for note in found.notes), *result.notes]
    if json:
        print_json(result.to_dict() | {"source": {"kind": found.kind, "notes": list(found.notes)}})
        return
    print_text("\n".join(notes))
    print_table("share of all pixels, %", ("class", "before", "after"), share_rows(result))
    print_text(result.summary())


def _order(split: str) -> int:
    """An image that is in several splits is written under the first: those of VOC's trainval are in train or val."""
    usual = ("train", "val", "test")
    return usual.index(split) if split in usual else len(usual)
