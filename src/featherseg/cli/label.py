"""The command that labels images, and says which to label next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ..core.errors import ConfigError
from .app import MODEL_HELP, FitText, Json, Out, Quiet, SizeText, Threads, app

THRESHOLD = 0.9
"""As in :mod:`featherseg.labelling.label`, which takes a while to import."""


@app.command
def label(
    model_and_images: Annotated[list[str], Parameter(help=f"{MODEL_HELP}; then images and folders of images.")],
    /,
    *,
    out: Out = Path("labels"),
    threshold: Annotated[
        tuple[str, ...],
        Parameter(help="Ignore (255) pixels that are less sure than 0.9: another number, or car=0.7. May be repeated."),
    ] = (),
    by: Annotated[
        Literal["entropy", "margin"], Parameter(help="How unsure the network is of an image, for the order.")
    ] = "entropy",
    to: Annotated[
        tuple[str, ...], Parameter(help="Write files for cvat, labelstudio or coco too. May be repeated.")
    ] = (),
    polygons: Annotated[
        bool, Parameter(help="Outlines instead of bitmaps for labelstudio and coco.", show_default=False)
    ] = False,
    sheet: Annotated[int, Parameter(help="Images on the contact sheet.")] = 200,
    size: SizeText = None,
    fit: FitText = None,
    threads: Threads = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Label images where the network is sure, and say in which order a person should label them.

    Masks that are there already are kept, and so are those that were corrected since; a call that was stopped is gone
    on with by the same call.

    For example:

        featherseg label mine.onnx frames/ -o round1
        featherseg label runs/street photos/images -o photos --to cvat
    """
    from ..core.formatting import percent
    from ..core.progress import counting, show_progress
    from ..evaluation.opening import open_segmenter, split_model
    from ..labelling.exports import check_programs
    from ..labelling.label import label as label_images
    from ..runtime.predict import find_images
    from .app import parse_size
    from .predict import parse_thresholds
    from .tables import print_json, print_table, print_text

    show_progress(not quiet)
    model, images = split_model(model_and_images)
    if not images:
        raise ConfigError(f"{model} is a network; name images or folders of images after it")
    # The masks of a folder's images/ are in its masks/, whichever of the two was named.
    home = out / "images"
    images = [home if path.resolve() == out.resolve() and home.is_dir() else path for path in images]
    programs = check_programs(to)
    found = find_images(images, out)
    segmenter = open_segmenter(model, size=parse_size(size), fit=fit, threads=threads)
    least = parse_thresholds((str(THRESHOLD), *threshold), segmenter.artifact.classes)
    assert least is not None  # THRESHOLD is one
    with counting("label", len(found)) as progress:
        result = label_images(
            segmenter,
            found,
            out,
            threshold=least,
            by=by,
            to=programs,
            polygons=polygons,
            sheet=sheet,
            model=model,
            progress=progress,
        )
    if json:
        print_json(result.to_dict())
        return
    if result.order:
        rows = [
            (str(rank), each.name, f"{getattr(each.look, by):.3f}", f"{percent(each.look.sure)} %")
            for rank, each in enumerate(result.order[:10], 1)
        ]
        print_table(f"the first of {len(result.order)} images to label", ("", "image", by, "sure of"), rows)
    for note in result.notes:
        print_text(note)
    kept = f", {len(result.kept)} kept as a person made them" if result.kept else ""
    print_text(f"{result.made} masks written to {out / 'masks'}{kept}; look through {out / 'label.html'}")
