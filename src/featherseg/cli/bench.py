"""Commands that time networks, as wholes and layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ..core.errors import ConfigError
from .app import Json, Quiet, Threads, app, need_training

if TYPE_CHECKING:
    from ..core.types import ImageArray

BENCH_SIZE = "512x1024"
BUNDLE_CLASSES = 19
STAGES = ("pre", "net", "post", "draw")
SLOWEST = 15
"""Layers that are shown where not all are asked for."""


@app.command
def bench(
    models: Annotated[list[str] | None, Parameter(help="Exported files, run folders, weights: one or several.")] = None,
    /,
    *,
    size: Annotated[str, Parameter(name="--size", help="HxW of the frame.")] = BENCH_SIZE,
    image: Annotated[Path | None, Parameter(help="Picture to take as the frame; a generated street otherwise.")] = None,
    threads: Threads = None,
    runs: Annotated[int, Parameter(help="Measured runs of each.")] = 30,
    compile: Annotated[bool, Parameter(help="torch.compile too, for weights.", show_default=False)] = False,
    memory: Annotated[bool, Parameter(negative="--no-memory", help="Measure each one's peak memory.")] = True,
    bundle: Annotated[Path | None, Parameter(help="Write a folder that times networks on another device.")] = None,
    networks: Annotated[str, Parameter(help="Of a bundle, commas between; all by default.")] = "",
    classes: Annotated[int | None, Parameter(help="Of a bundle's networks; 19 by default.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Time every engine here that runs a model, in turns in one run: each stage, frames per second, memory.

    Or write a folder of candidates with a program that times them where there is no featherseg, for featherseg pick.

    For example:

        featherseg bench street.onnx
        featherseg bench street.onnx street_int8.onnx runs/camvid_fastsegnet --size 360x480 --threads 1
        featherseg bench --bundle pi --size 360x480 --classes 11
    """
    from ..core.images import read_image
    from ..core.progress import counting, show_progress
    from ..data.datasets import create_dataset
    from ..evaluation.benchmark import benchmark
    from ..evaluation.candidates import contenders
    from ..runtime.fitting import resized
    from .app import parse_size
    from .tables import print_json, print_table, print_text

    show_progress(not quiet)
    frame_size = parse_size(size) or (512, 1024)
    if threads is not None and threads < 1:
        raise ConfigError(f"--threads is {threads}; give at least 1, or leave it out to use all")
    if runs < 1:
        raise ConfigError(f"--runs is {runs}; measure at least 1 run")
    if image is not None:
        frame = resized(read_image(image), frame_size)
    else:
        frame = create_dataset("synthetic", split="test", size=frame_size).read(0)[0]
    if bundle is not None:
        if models:
            raise ConfigError(f"--bundle holds candidates of its own; leave {models[0]} out")
        _write_bundle(bundle, frame, classes, networks, json=json)
        return
    if not models:
        raise ConfigError("there is nothing to time; give exported files, run folders or weights, or --bundle FOLDER")
    if networks or classes is not None:
        given = "--networks" if networks else "--classes"
        raise ConfigError(f"{given} is of a --bundle, which is not asked for; leave it out")
    found = contenders(models, frame_size=frame_size, threads=threads, compiled=compile, memory=memory)
    warmup = 5
    with counting("bench", len(found) + warmup + runs) as progress:
        result = benchmark(found, frame, runs=runs, warmup=warmup, threads=threads, progress=progress)
    if json:
        print_json(result.to_dict() | {"frame": str(image) if image else "generated street"})
        return
    rows = []
    for standing in result.standings:
        if standing.latency is None:
            rows.append((standing.file, standing.engine, *[""] * 7))
            continue
        ms = standing.latency.to_dict()["ms"]
        cells = [" / ".join(f"{ms[stage][q]:.1f}" for q in ("p50", "p90", "p99")) for stage in (*STAGES, "sum")]
        peak = f"{standing.peak_bytes / 1e6:.0f}" if standing.peak_bytes else ""
        rows.append((standing.file, standing.engine, *cells, f"{standing.fps:.1f}", peak))
    title = f"ms (p50 / p90 / p99) of {runs} runs in turns, frame {frame.shape[0]}x{frame.shape[1]}"
    print_table(title, ("file", "engine", *STAGES, "sum", "FPS", "peak MB"), rows)
    for standing in result.standings:
        if standing.failure:
            print_text(f"{standing.file} with {standing.engine}: {standing.failure}")
    machine = result.machine
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    print_text(
        f"{machine['processor']}, cores: {machine['cores']}, threads: {machine['threads']}, load before: "
        f"{machine['load']}; {versions}"
    )
    for note in result.notes:
        print_text(f"note: {note}")


def _write_bundle(folder: Path, frame: ImageArray, classes: int | None, networks: str, *, json: bool) -> None:
    """Write a bundle, and say what to do with it."""
    need_training("Exporting candidates")
    from ..core.progress import counting
    from ..picking.bundle import PROGRAM, write_bundle
    from .tables import print_json, print_text

    names = [word.strip() for word in networks.split(",") if word.strip()]
    with counting("export") as progress:
        write_bundle(folder, frame, BUNDLE_CLASSES if classes is None else classes, networks=names, progress=progress)
    if json:
        print_json({"bundle": str(folder), "program": PROGRAM, "size": list(frame.shape[:2])})
        return
    print_text(f"{folder}: copy it to the device, and run there: python {PROGRAM} -o device.json")


@app.command
def profile(
    model: Path,
    /,
    *,
    size: Annotated[str, Parameter(name="--size", help="HxW of the image.")] = BENCH_SIZE,
    engine: Annotated[Literal["onnxruntime", "openvino"], Parameter(help="Whose kernels.")] = "onnxruntime",
    precision: Annotated[Literal["fp32", "bf16", "fp16"], Parameter(help="What OpenVINO computes floats in.")] = "fp32",
    threads: Threads = None,
    runs: Annotated[int, Parameter(help="Counted runs.")] = 15,
    all: Annotated[bool, Parameter(help="All layers, not the slowest alone.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Show where a network's time goes: each layer's time, multiply-accumulates, and share of what the machine can do.

    The machine's best is measured there and then, with as many threads: a product of fp32 matrices, and a copy
    that no cache holds. A layer near 100 % of either can become faster by doing less alone.

    For example:

        featherseg profile street.onnx
        featherseg profile street.onnx --engine openvino --precision bf16 --threads 1 --all

    Args:
        model: exported .onnx file.
    """
    from ..core.formatting import percent
    from ..evaluation.profiling.layers import profile as profile_file
    from .app import parse_size
    from .tables import print_json, print_table, print_text

    result = profile_file(
        model, parse_size(size) or (512, 1024), engine=engine, threads=threads, precision=precision, runs=runs
    )
    if json:
        print_json(result.to_dict())
        return
    total = result.total
    shown = result.layers if all else result.layers[:SLOWEST]
    rest = len(result.layers) - len(shown)
    rows = []
    for layer in (*shown, total):
        compute, memory = layer.reach(result.peaks)
        share = layer.ms / total.ms if total.ms else 0.0
        figures = (f"{layer.ms:.2f}", percent(share), f"{layer.macs / 1e6:.1f}", f"{layer.params / 1e3:.1f}")
        name = f"all {len(result.layers)}" if layer is total else layer.layer
        rows.append((name, layer.kind, *figures, f"{100 * compute:.0f}", f"{100 * memory:.0f}"))
    columns = ("layer", "kernels", "ms", "% of time", "M MACs", "k params", "% of peak MACs", "% of peak bytes")
    print_table(f"{result.file} at {result.size[0]}x{result.size[1]}, {result.engine}", columns, rows)
    if rest:
        print_text(f"{rest} faster layers are in the sum alone; --all shows them")
    peaks = result.peaks
    print_text(
        f"{result.device}, threads: {peaks.threads}; whole run {result.ms:.1f} ms while counting; peaks: "
        f"{peaks.gmacs:.0f} G fp32 MACs/s, {peaks.gbytes:.0f} GB/s read and written. Above 100 %: in fewer bits "
        "than fp32, or in the cache"
    )
