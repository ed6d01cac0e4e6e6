"""Commands that make networks smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ..core.errors import ConfigError
from .app import Data, Json, Kind, Quiet, Split, Threads, app, need_training


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
    from ..compress.prune import prune as prune_model
    from ..core.outputs import writing
    from ..models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from .app import parse_size
    from .tables import print_json, print_text

    if out.suffix.lower() != ".safetensors":
        raise ConfigError(f"--out is {out}; weights are written as .safetensors")
    checkpoint = load_checkpoint(run)
    with writing(out):
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
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help="File; beside the fp32 one by default.")] = None,
    data: Data = None,
    kind: Kind = None,
    split: Split = None,
    threads: Threads = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write an exported file again in int8, calibrated and scored on your own images.

    Layers that cost too much stay in fp32, the most damaging first. A file that turns out slower is marked so.

    For example:

        featherseg quantize street.onnx --data ~/CamVid -o street_int8.onnx
        featherseg quantize street.onnx --data ~/CamVid --engine openvino -o street_int8.xml

    Args:
        file: exported fp32 .onnx file.
    """
    need_training("Quantising")
    from ..compress.calibration import calibration_images
    from ..compress.quantize import QuantizeConfig
    from ..compress.quantize import quantize as quantize_file
    from ..core.outputs import writing
    from ..core.progress import show_progress
    from ..evaluation.opening import open_labelled
    from ..runtime.artifact import read_artifact
    from ..runtime.containers import possible_parts
    from .tables import print_json, print_text

    show_progress(not quiet)
    artifact = read_artifact(file)
    training = artifact.training
    val_set = open_labelled(file, training, root=data, kind=kind, split=split)
    train_set = open_labelled(file, training, root=data, kind=kind, split=str(training.get("split", "train")))
    suffix = ".xml" if engine == "openvino" else ".onnx"
    path = out or file.with_name(f"{file.stem}_int8{suffix}")
    with writing(*possible_parts(path)):
        result = quantize_file(
            file,
            path,
            calibration_images(train_set, calibration, spec=artifact.input_spec),
            val_set,
            QuantizeConfig(max_drop=max_drop, flavour=engine, threads=threads),
        )
    if json:
        print_json(result.to_dict())
        return
    print_text(f"{result}\n{result.path}")
