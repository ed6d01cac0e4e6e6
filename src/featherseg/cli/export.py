"""Commands that judge networks and write them as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ..core.errors import ConfigError
from ..core.types import MAX_LONG_SIDE
from .app import Data, Json, Kind, Quiet, Split, app, need_training


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
        Literal["fp32", "int8"],
        Parameter(help="How an ONNX file stores its weights; int8 is a quarter of the size, as fast."),
    ] = "fp32",
    int8: Annotated[
        bool,
        Parameter(help="Compute in int8, as far as masks stay: an ONNX file twice as fast.", show_default=False),
    ] = False,
    fixed: Annotated[str | None, Parameter(name="--fixed", help="HxW of an ONNX file for that size alone.")] = None,
    long_side: Annotated[
        int | None,
        Parameter(help="Pixels of the longer side at which images are shown to it, by default as in training."),
    ] = None,
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
        featherseg export runs/camvid_fastsegnet --int8 -o street_int8.onnx
        featherseg export runs/camvid_fastsegnet --to openvino -o street.xml
        featherseg export runs/camvid_fastsegnet --to tensorrt --precision fp16 --unproven
        featherseg export runs/camvid_street --long-side 640 -o quicker.onnx

    Args:
        run: run folder or weights file.
    """
    need_training("Exporting")
    from ..compress.proven import export_int8
    from ..compress.weights_int8 import INT8_WEIGHTS, store_int8
    from ..core.outputs import writing
    from ..core.progress import counting, show_progress
    from ..evaluation.opening import open_labelled
    from ..exporting.targets import export as export_file
    from ..exporting.targets import targets
    from ..exporting.verify import export_verified
    from ..models.published import open_checkpoint
    from ..runtime.containers import possible_parts
    from .app import parse_size
    from .tables import print_json, print_text

    show_progress(not quiet)
    target = targets.get(to)
    target.checked(precision)
    if out is not None and out.suffix.lower() != target.suffix:
        raise ConfigError(f"--out is {out}; an exported {to} file ends in {target.suffix}")
    if weights == "int8" and (to != "onnx" or precision or fixed or unproven):
        raise ConfigError("--weights int8 is of a proven ONNX file of any size; leave --to, --precision and others out")
    if int8 and (to != "onnx" or precision or weights == "int8" or fixed or unproven):
        raise ConfigError("--int8 is of a proven ONNX file of any size; leave --to, --precision and others out")
    if fixed and to != "onnx":
        raise ConfigError(f"--fixed is {fixed}, which --to {to} does not know; it is for ONNX files")
    if long_side is not None and not 1 <= long_side <= MAX_LONG_SIDE:
        raise ConfigError(f"--long-side is {long_side}; give 1 to {MAX_LONG_SIDE} pixels")
    checkpoint = open_checkpoint(run)
    if long_side is not None:
        checkpoint.model.input_spec = replace(checkpoint.model.input_spec, long_side=long_side)
    path = out or (run if run.is_dir() else run.parent) / f"{checkpoint.model.name}{target.suffix}"
    options: dict[str, Any] = {"size": parse_size(fixed)} if fixed else {}
    if unproven:
        with writing(*possible_parts(path)):
            export_file(to, checkpoint, path, None, precision=precision, **options)
        if json:
            print_json({"path": str(path), "bytes": _bytes(path), "passed": None})
        else:
            print_text(f"{path}, {_bytes(path) / 1e6:.2f} MB, not verified: prove it where it runs")
        return
    training = checkpoint.training
    dataset = open_labelled(run, training, root=data, kind=kind, split=split)
    quantized = None
    with writing(*possible_parts(path)), counting("verify", len(dataset)) as progress:
        if int8:
            own = str(training.get("split", "train"))
            train_set = open_labelled(run, training, root=data, kind=kind, split=own)
            quantized, result = export_int8(checkpoint, path, train_set, dataset, progress=progress)
        elif weights == "int8":
            result = export_verified(checkpoint, path, dataset, INT8_WEIGHTS, transform=store_int8, progress=progress)
        else:
            proven = export_file(to, checkpoint, path, dataset, precision=precision, progress=progress, **options)
            assert proven is not None  # there was a dataset
            result = proven
    if json:
        how = {"quantization": quantized.to_dict()} if quantized else {}
        print_json({"path": str(path), "bytes": _bytes(path), **result.to_dict(), **how})
        return
    if quantized:
        print_text(str(quantized))
    print_text(f"{result}\n{path}, {_bytes(path) / 1e6:.2f} MB")


def _bytes(path: Path) -> int:
    """Return what an exported file takes up, with what it needs beside it."""
    from ..runtime.containers import file_parts

    return sum(part.stat().st_size for part in file_parts(path))
