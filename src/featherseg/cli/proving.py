"""Commands that judge networks and write them as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ..errors import ConfigError
from .app import Data, Json, Kind, Quiet, SizeText, Split, Threads, app, need_training


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
    confusion: Annotated[Path | None, Parameter(help="Write the confusion matrix as a picture.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score a run folder, weights file or exported file on labelled images, at their original resolution.

    For example:

        featherseg eval runs/camvid_fastsegnet --scales 0.75 1.0 1.25 --flip
        featherseg eval street.onnx --data ~/CamVid --confusion confusion.png

    Args:
        model: run folder, weights or .onnx file.
    """
    from ..evaluation import evaluate
    from ..images import IMAGE_SUFFIXES, write_image
    from ..inference import open_labelled, open_segmenter, parse_size
    from ..progress import counting
    from ..tables import print_json, print_scores
    from ..visualize import confusion_picture

    if confusion is not None and confusion.suffix.lower() not in IMAGE_SUFFIXES:
        raise ConfigError(f"--confusion is {confusion}, which names no picture; end it in .png")
    segmenter = open_segmenter(model, size=parse_size(size), threads=threads)
    dataset = open_labelled(model, segmenter.artifact.training, root=data, kind=kind, split=split)
    with counting("evaluate", len(dataset), quiet=quiet) as progress:
        result = evaluate(segmenter, dataset, scales=scales, flip=flip, progress=progress)
    if json:
        print_json(result.to_dict())
    else:
        print_scores(result)
    if confusion is not None:  # after the scores, which are not lost where it cannot be written
        write_image(confusion, confusion_picture(result.matrix, result.classes))


@app.command
def export(
    run: Path,
    /,
    *,
    to: Annotated[
        Literal["onnx", "openvino", "tensorrt", "torch"], Parameter(help="Kind of file; ONNX runs everywhere.")
    ] = "onnx",
    precision: Annotated[
        Literal["fp32", "fp16"] | None, Parameter(help="What weights are stored (TensorRT: computed) in.")
    ] = None,
    weights: Annotated[
        Literal["float32", "int8"],
        Parameter(help="How an ONNX file stores its weights; int8 is a quarter of the size, as fast."),
    ] = "float32",
    fixed: Annotated[str | None, Parameter(name="--fixed", help="HxW of an ONNX file for that size alone.")] = None,
    unproven: Annotated[
        bool, Parameter(help="Do not run the file, which this machine may not be able to.", show_default=False)
    ] = False,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help="File; by default in the run folder.")] = None,
    data: Data = None,
    kind: Kind = None,
    split: Split = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write a run as one file that needs nothing beside it, proven on the validation images, or not at all.

    For example:

        featherseg export runs/camvid_fastsegnet -o street.onnx
        featherseg export runs/camvid_fastsegnet --to openvino -o street.xml
        featherseg export runs/camvid_fastsegnet --to tensorrt --precision fp16 --unproven

    Args:
        run: run folder or weights file.
    """
    need_training("Exporting")
    from ..checkpoint import load_checkpoint
    from ..compress.quantize import INT8_WEIGHTS, store_int8
    from ..export.targets import export_checkpoint, targets
    from ..export.verify import export_verified
    from ..inference import open_labelled, parse_size
    from ..progress import counting
    from ..tables import print_json, print_text

    target = targets.get(to)
    target.checked(precision)
    if out is not None and out.suffix.lower() != target.suffix:
        raise ConfigError(f"--out is {out}; an exported {to} file ends in {target.suffix}")
    if weights == "int8" and (to != "onnx" or precision or fixed or unproven):
        raise ConfigError("--weights int8 is of a proven ONNX file of any size; leave --to, --precision and others out")
    if fixed and to != "onnx":
        raise ConfigError(f"--fixed is {fixed}, which --to {to} does not know; it is for ONNX files")
    checkpoint = load_checkpoint(run)
    path = out or (run if run.is_dir() else run.parent) / f"{checkpoint.model.name}{target.suffix}"
    options: dict[str, Any] = {"size": parse_size(fixed)} if fixed else {}
    if unproven:
        export_checkpoint(to, checkpoint, path, None, precision=precision, **options)
        if json:
            print_json({"path": str(path), "bytes": _bytes(path), "passed": None})
        else:
            print_text(f"{path}, {_bytes(path) / 1e6:.2f} MB, not verified: prove it where it runs")
        return
    dataset = open_labelled(run, checkpoint.training, root=data, kind=kind, split=split)
    with counting("verify", len(dataset), quiet=quiet) as progress:

        def advance(done: int, total: int) -> None:
            progress(done)

        if weights == "int8":
            result = export_verified(checkpoint, path, dataset, INT8_WEIGHTS, transform=store_int8, progress=advance)
        else:
            proven = export_checkpoint(to, checkpoint, path, dataset, precision=precision, progress=advance, **options)
            assert proven is not None  # there was a dataset
            result = proven
    if json:
        print_json({"path": str(path), "bytes": _bytes(path), **result.to_dict()})
        return
    print_text(f"{result}\n{path}, {_bytes(path) / 1e6:.2f} MB")


def _bytes(path: Path) -> int:
    """Return what an exported file takes up, with what it needs beside it."""
    from ..runtime.containers import file_parts

    return sum(part.stat().st_size for part in file_parts(path))
