"""The command that scores networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..core.errors import ConfigError
from .app import Data, Json, Kind, Quiet, RayFlag, SizeText, Split, Threads, Workers, app


@app.command(name="eval")
def eval_(
    model: str,
    /,
    *,
    data: Data = None,
    kind: Kind = None,
    split: Split = None,
    size: SizeText = None,
    scales: Annotated[tuple[float, ...], Parameter(help="Image scales to average.", consume_multiple=True)] = (1.0,),
    flip: Annotated[bool, Parameter(help="Average over the mirrored image too.", show_default=False)] = False,
    threads: Threads = None,
    class_map: Annotated[
        Path | None,
        Parameter(name="--map", help="TOML that says which classes of the network are which of the data's."),
    ] = None,
    thin: Annotated[
        tuple[str, ...] | None,
        Parameter(help="Classes that are thin and get clDice; else by their width.", consume_multiple=True),
    ] = None,
    confusion: Annotated[Path | None, Parameter(help="Write the confusion matrix as a picture.")] = None,
    report: Annotated[
        Path | None, Parameter(help="Write a page with a diagram of how sure the network is, and how right.")
    ] = None,
    ray: RayFlag = False,
    workers: Workers = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score a run folder, weights file or exported file on labelled images, at their original resolution.

    For example:

        featherseg eval runs/camvid_fastsegnet --scales 0.75 1.0 1.25 --flip
        featherseg eval street.onnx --data ~/CamVid --confusion confusion.png
        featherseg eval fddwnet:cityscapes --data ~/CamVid --kind camvid --map map.toml --size 720x960

    Classes are matched by their names. Where a network knows others than the data, the map has a line for each class
    of the data with the network's, such as Car = ["car", "truck", "bus"].

    Args:
        model: run folder, weights or .onnx file; or published weights, such as fddwnet:cityscapes.
    """
    from ..core.images import IMAGE_SUFFIXES, write_image
    from ..core.outputs import Outputs
    from ..core.progress import counting, show_progress
    from ..evaluation.matching import read_map
    from ..evaluation.opening import open_labelled, open_segmenter
    from ..evaluation.scores import evaluate
    from ..evaluation.visualize import confusion_picture
    from ..shipping.report.reliability import evaluation_page
    from .app import parse_size
    from .spread import evaluate_many, need_ray
    from .tables import print_json, print_scores

    show_progress(not quiet)
    if not ray:
        need_ray({"--workers": workers})
    elif report is not None:
        raise ConfigError("--report does not go with --ray; one process has to see all images for it")
    if confusion is not None and confusion.suffix.lower() not in IMAGE_SUFFIXES:
        raise ConfigError(f"--confusion is {confusion}, which names no picture; end it in .png")
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--report is {report}, which names no page; end it in .html")
    outputs = Outputs()
    outputs.require(path for path in (confusion, report) if path is not None)  # before minutes of scoring
    matches = None if class_map is None else read_map(class_map)
    segmenter = open_segmenter(model, size=parse_size(size), threads=threads)
    dataset = open_labelled(model, segmenter.artifact.training, root=data, kind=kind, split=split)
    options: dict[str, Any] = {"scales": scales, "flip": flip, "thin": thin, "class_map": matches}
    with counting("evaluate", len(dataset)) as progress:
        if ray:
            result = evaluate_many(
                model,
                dataset,
                workers=workers,
                threads=1 if threads is None else threads,
                size=parse_size(size),
                progress=progress,
                **options,
            )
        else:
            result = evaluate(segmenter, dataset, progress=progress, **options)
    if json:
        print_json(result.to_dict())
    else:
        print_scores(result)
    if report is not None:
        page = evaluation_page(
            f"{Path(model).name} on {dataset.name} {dataset.split}",
            result.summary(),
            result.remarks(),
            [each.to_dict() for each in result.reliability],
        )
        outputs.write(report, lambda file: file.write(page.encode("utf-8", "replace")))
    if confusion is not None:  # after the scores, which are not lost where it cannot be written
        write_image(confusion, confusion_picture(result.matrix, result.classes), outputs.write)
