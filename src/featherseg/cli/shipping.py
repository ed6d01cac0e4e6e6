"""Commands that make networks smaller and hand them over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from ..errors import ConfigError
from .app import Data, Json, Kind, Quiet, Split, Threads, app, need_training


@app.command
def ship(
    run: Path,
    /,
    *,
    to: Annotated[str | None, Parameter(help="Targets with commas between, such as onnx,openvino.")] = None,
    int8: Annotated[bool | None, Parameter(help="Quantised files too.", show_default=False)] = None,
    prune: Annotated[float | None, Parameter(help="Share of channels to remove, such as 0.3.")] = None,
    epochs: Annotated[int | None, Parameter(help="How long a pruned network is trained again.")] = None,
    max_drop: Annotated[float | None, Parameter(help="mIoU, 0-1, that a step may cost; 0.01 is one point.")] = None,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder to write.")] = Path("dist"),
    data: Data = None,
    kind: Kind = None,
    terms: Annotated[str, Parameter(help="Terms of use of the data, for the model card.", show_default=False)] = "",
    golden: Annotated[Path | None, Parameter(help="Image that goes along; by default the first to validate.")] = None,
    pictures: Annotated[
        int | None, Parameter(help="Worst images to show; with 0 no picture of the data goes along.")
    ] = None,
    threads: Threads = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Turn a run into a folder of proven files: prune, train again, export, quantise, compare, report.

    What is left out is as the [ship] section of the run's recipe says.

    For example:

        featherseg ship runs/camvid_fastsegnet --to onnx,openvino --int8 --prune 0.3 -o dist

    Args:
        run: run folder or weights file.
    """
    need_training("Shipping")
    from ..config import ShipConfig, config_from_dict
    from ..run import RunFolder
    from ..ship import ship as ship_run
    from ..ship_report import file_rows, step_rows
    from ..tables import print_json, print_table, print_text

    settings = {
        "to": [name.strip() for name in to.split(",")] if to is not None else None,
        "int8": int8,
        "prune": prune,
        "finetune_epochs": epochs,
        "max_drop": max_drop,
        "threads": threads,
        "pictures": pictures,
    }
    own = RunFolder(run).config.ship if run.is_dir() else ShipConfig()
    given = {key: value for key, value in settings.items() if value is not None}
    config = config_from_dict({"ship": msgspec.to_builtins(own) | given}).ship
    report = ship_run(run, out, config, data=data, kind=kind, terms=terms, golden=golden, quiet=quiet)
    if json:
        print_json(report.to_dict())
        return
    print_table("steps", *step_rows(report))
    print_table("files", *file_rows(report))
    print_text(f"{out}, with its report in {out / 'report.html'}")


@app.command
def prune(
    run: Path,
    /,
    *,
    ratio: Annotated[float | None, Parameter(help="Share of channels to remove; 0.3 where no goal is given.")] = None,
    gmacs: Annotated[float | None, Parameter(help="Or: at most so many GMACs.")] = None,
    params: Annotated[int | None, Parameter(help="Or: at most so many parameters.")] = None,
    latency: Annotated[float | None, Parameter(help="Or: at most so many ms, ONNX Runtime, one thread.")] = None,
    ranking: Annotated[Literal["uniform", "global"], Parameter(help="Which channels go.")] = "uniform",
    size: Annotated[str, Parameter(name="--size", help="HxW that is counted and timed at.")] = "360x480",
    protect: Annotated[
        tuple[str, ...], Parameter(help="Layers that stay, as names or patterns.", consume_multiple=True)
    ] = (),
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Weights file to write.")] = Path("pruned.safetensors"),
    json: Json = False,
) -> None:
    """Remove channels of a trained network, the least important first, and print the plan; train it again afterwards.

    For example:

        featherseg prune runs/camvid_fastsegnet --ratio 0.3 -o pruned.safetensors
        featherseg train recipes/camvid_fastsegnet.toml model.init=pruned.safetensors model.options={}

    Args:
        run: run folder or weights file.
    """
    need_training("Pruning")
    from ..checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from ..compress.prune import prune as prune_model
    from ..inference import parse_size
    from ..tables import print_json, print_text

    if out.suffix.lower() != ".safetensors":
        raise ConfigError(f"--out is {out}; weights are written as .safetensors")
    checkpoint = load_checkpoint(run)
    result = prune_model(
        checkpoint.model,
        ratio,
        target_gmacs=gmacs,
        target_params=params,
        target_latency_ms=latency,
        ranking=ranking,
        example_size=parse_size(size) or (360, 480),
        protect=protect,
    )
    save_checkpoint(out, Checkpoint(result.model, checkpoint.classes, checkpoint.training))
    if json:
        print_json({"path": str(out), **result.to_dict()})
        return
    print_text(f"{result}\n{out}; train it again with model.init={out} and model.options={{}}")


@app.command
def quantize(
    file: Path,
    /,
    *,
    engine: Annotated[
        Literal["onnxruntime", "openvino", "tensorrt"], Parameter(help="Engine that the int8 file is for.")
    ] = "onnxruntime",
    max_drop: Annotated[float, Parameter(help="mIoU, 0-1, that may be lost; 0.01 is one point.")] = 0.01,
    calibration: Annotated[int, Parameter(help="Images of the training split to calibrate with.")] = 48,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help="File; beside the float one by default.")] = None,
    data: Data = None,
    kind: Kind = None,
    split: Split = None,
    threads: Threads = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write an exported file again in int8, calibrated and scored on your own images.

    Layers that cost too much stay in float, the most damaging first. A file that turns out slower is marked so.

    For example:

        featherseg quantize street.onnx --data ~/CamVid -o street_int8.onnx
        featherseg quantize street.onnx --data ~/CamVid --engine openvino -o street_int8.xml

    Args:
        file: exported float32 .onnx file.
    """
    need_training("Quantising")
    from ..compress.calibration import calibration_images
    from ..compress.fallback import quantize_within
    from ..inference import open_labelled
    from ..progress import say
    from ..runtime.artifact import read_artifact
    from ..tables import print_json, print_text

    training = read_artifact(file).training
    val_set = open_labelled(file, training, root=data, kind=kind, split=split)
    train_set = open_labelled(file, training, root=data, kind=kind, split=str(training.get("split", "train")))
    suffix = ".xml" if engine == "openvino" else ".onnx"
    result = quantize_within(
        file,
        out or file.with_name(f"{file.stem}_int8{suffix}"),
        calibration_images(train_set, calibration),
        val_set,
        max_drop=max_drop,
        flavour=engine,
        threads=threads,
        progress=lambda message: say(message, quiet),
    )
    if json:
        print_json(result.to_dict())
        return
    print_text(f"{result}\n{result.path}")
