"""The command line: each command parses, makes one call of the library, and prints.

Heavy imports stand inside the commands, so that ``--help`` answers at once and the base install suffices for
all that needs no training.
"""

from __future__ import annotations

import inspect
import os
import platform
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter

from .errors import ConfigError, FeathersegError, require

# Examples are indented blocks: a section called "Example" would be taken out of the help as part of the docstring.
HELP = """Lightweight real-time semantic segmentation: from images and masks to a small, proven file.

For example:

    featherseg demo
    featherseg train recipes/camvid_fastsegnet.toml data.root=~/CamVid
    featherseg export runs/camvid_fastsegnet -o street.onnx
    featherseg predict street.onnx photos/ -o out
"""


def version_text() -> str:
    """Return featherseg's version, and those of what runs and trains networks where installed, a line each."""
    lines = []
    for package in ("featherseg", "onnxruntime", "torch"):
        with suppress(PackageNotFoundError):
            lines.append(f"{package} {version(package)}")
    return "\n".join([*lines, f"python {platform.python_version()}"])


app = App(
    name="featherseg",
    help=HELP,
    version=version_text,
    version_flags=["--version"],
    help_format="plaintext",  # rendering Markdown takes longer to import than all the rest
    version_format="plaintext",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,  # main() ends an interrupted command with a word
)

MODEL_HELP = "An .onnx file, run folder or weights file (the street network that comes along where left out)"

Json = Annotated[bool, Parameter(name="--json", help="Print the result as JSON.", show_default=False)]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], help="Show no progress.", show_default=False)]
Out = Annotated[Path, Parameter(name=["--out", "-o"], help="Folder to write to.")]
SizeText = Annotated[str | None, Parameter(name="--size", help="HxW that images are resized to for the network.")]
Data = Annotated[str | None, Parameter(name="--data", help="Folder of the data; by default the run's own.")]
Kind = Annotated[str | None, Parameter(name="--kind", help="Dataset kind; by default the one it was trained on.")]
Split = Annotated[str | None, Parameter(name="--split", help="Split; by default the validation split.")]
Threads = Annotated[int | None, Parameter(name="--threads", help="Threads of the engine; by default all.")]


@app.command
def demo(*, out: Out = Path("runs"), quiet: Quiet = False, json: Json = False) -> None:
    """Go the whole way on generated street scenes: train, evaluate, export, verify, segment. Needs no data.

    For example:

        featherseg demo -o runs
    """
    _need_training()
    from .demo import run_demo
    from .tables import print_json, print_latency, print_table, print_text

    result = run_demo(out, quiet=quiet)
    if json:
        print_json(result.to_dict())
        return
    print_table("featherseg demo", ("", ""), result.rows())
    print_latency(result.latency)
    print_text(f"{result.scores.summary()}\nfile    {result.artifact}\npicture {result.picture}")


@app.command
def train(
    recipe: str | None = None,
    /,
    *overrides: str,
    resume: Annotated[Path | None, Parameter(help="Run folder to go on with.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a network as a TOML recipe and key=value settings say.

    For example:

        featherseg train recipes/camvid_fastsegnet.toml data.root=~/CamVid
        featherseg train data.root=photos model.name=jetnet train.epochs=20
        featherseg train --resume runs/camvid_fastsegnet

    Args:
        recipe: TOML file; settings may stand in its place.
        overrides: dotted.key=value settings, such as optim.lr=1e-3.
    """
    _need_training()
    from .config import load_config
    from .tables import print_json, print_scores, print_text
    from .train import fit, resume_run

    if recipe is not None and "=" in recipe:
        overrides, recipe = (recipe, *overrides), None
    if resume is not None:
        if recipe is not None or overrides:
            raise ConfigError(f"--resume goes on with {resume} as it was configured; leave the other settings out")
        result = resume_run(resume, quiet=quiet)
    else:
        result = fit(load_config(recipe, overrides), quiet=quiet)
    if int(os.environ.get("RANK", "0")):
        return  # torchrun's other processes have the same result
    if json:
        print_json({"run": str(result.path), "best_epoch": result.best_epoch, **result.best.to_dict()})
        return
    print_scores(result.best)
    print_text(f"best epoch {result.best_epoch} of {result.epochs}; {result.seconds / 60:.1f} min; run {result.path}")


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
    from .evaluation import evaluate
    from .images import IMAGE_SUFFIXES, write_image
    from .inference import open_labelled, open_segmenter, parse_size
    from .progress import counting
    from .tables import print_json, print_scores
    from .visualize import confusion_picture

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
    to: Annotated[Literal["onnx"], Parameter(help="Format.")] = "onnx",
    weights: Annotated[
        Literal["float32", "int8"], Parameter(help="How weights are stored; int8 is a quarter of the size, as fast.")
    ] = "float32",
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

    Args:
        run: run folder or weights file.
    """
    _need_training("Exporting")
    from .checkpoint import load_checkpoint
    from .compress.quantize import INT8_WEIGHTS, store_int8
    from .export.verify import export_verified
    from .inference import open_labelled
    from .progress import counting
    from .tables import print_json, print_text

    if out is not None and out.suffix.lower() != f".{to}":
        raise ConfigError(f"--out is {out}; an exported file ends in .{to}")
    checkpoint = load_checkpoint(run)
    dataset = open_labelled(run, checkpoint.training, root=data, kind=kind, split=split)
    path = out or (run if run.is_dir() else run.parent) / f"{checkpoint.model.name}.{to}"
    with counting("verify", len(dataset), quiet=quiet) as progress:
        small: dict[str, Any] = {"tolerance": INT8_WEIGHTS, "transform": store_int8} if weights == "int8" else {}
        result = export_verified(checkpoint, path, dataset, progress=lambda done, total: progress(done), **small)
    if json:
        print_json({"path": str(path), "bytes": path.stat().st_size, **result.to_dict()})
        return
    print_text(f"{result}\n{path}, {path.stat().st_size / 1e6:.2f} MB")


@app.command
def predict(
    model_and_images: Annotated[list[str], Parameter(help=f"{MODEL_HELP}; then images and folders of images.")],
    /,
    *,
    out: Out = Path("predictions"),
    size: SizeText = None,
    threads: Threads = None,
    overlays: Annotated[bool, Parameter(negative="--no-overlays", help="Write overlays beside the masks.")] = True,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Segment images: palette PNG masks of class ids, and overlays with legend.

    For example:

        featherseg predict street.jpg
        featherseg predict mine.onnx photos/ -o out
    """
    from .inference import find_images, open_segmenter, parse_size, split_model
    from .inference import predict as predict_images
    from .progress import counting
    from .tables import percent, print_json, print_table, print_text

    model, images = split_model(model_and_images)
    if not images:
        raise ConfigError(f"{model} is a network; name images or folders of images after it")
    paths = find_images(images)
    segmenter = open_segmenter(model, size=parse_size(size), threads=threads)
    with counting("predict", len(paths), quiet=quiet) as progress:
        result = predict_images(segmenter, paths, out, overlays=overlays, progress=progress)
    if json:
        print_json({"masks": [str(p) for p in result.masks], "overlays": [str(p) for p in result.overlays]})
        return
    rows = [(name, f"{percent(share)} %") for name, share in sorted(result.coverage.items(), key=lambda kv: -kv[1])]
    print_table(f"{len(result.masks)} images", ("class", "share of pixels"), rows)
    print_text(f"masks in {out / 'masks'}" + (f", overlays in {out / 'overlays'}" if overlays else ""))


@app.command
def video(
    model_and_source: Annotated[list[str], Parameter(help=f"{MODEL_HELP}; then a video file or a folder of images.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help="Video to write, such as out.mp4.")] = None,
    size: SizeText = None,
    threads: Threads = None,
    mode: Annotated[
        Literal["overlay", "mask", "side-by-side"] | None, Parameter(help="What is written; overlay by default.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Segment a video file, or a folder of frames; write a video with --out, else only time it.

    For example:

        featherseg video drive.mp4 -o segmented.mp4
        featherseg video mine.onnx drive.mp4 -o segmented.mp4
    """
    from .inference import open_segmenter, parse_size, split_model
    from .progress import bars
    from .runtime.video import segment_video
    from .tables import print_json, print_latency, print_text

    if mode is not None and out is None:
        raise ConfigError(f"--mode {mode} says what is written, but nothing is; give --out too")
    model, sources = split_model(model_and_source)
    if len(sources) != 1:
        raise ConfigError(f"video takes one source; got {len(sources)}: name a video file or a folder of images")
    source = sources[0]
    segmenter = open_segmenter(model, size=parse_size(size), threads=threads)
    with bars("{task.fields[rate]}", quiet=quiet) as progress:
        task = progress.add_task("frames", total=None, rate="")

        def advance(*_: Any) -> None:
            speed = progress.tasks[task].speed
            progress.update(task, advance=1, rate=f"{speed:.1f} frames/s" if speed else "")

        result = segment_video(segmenter, source, out, on_frame=advance, mode=mode or "overlay")
    if json:
        figures = {"frames": result.frames, "seconds": result.seconds, "fps": result.fps}
        print_json(figures | {"latency": result.latency.to_dict()})
        return
    print_latency(result.latency)
    print_text(f"{result.frames} frames in {result.seconds:.1f} s: {result.fps:.1f} frames/s end to end")


@app.command
def models(*, json: Json = False) -> None:
    """List the networks with their parameters, multiply-accumulates and stride."""
    _need_training("Listing networks")
    from .models import list_models, model_facts
    from .tables import print_json, print_table

    facts = {name: model_facts(name) for name in list_models()}
    if json:
        print_json({name: asdict(fact) for name, fact in facts.items()})
        return
    columns = ("network", "M parameters", "GMACs at H x W", "classes", "stride", "paper")
    rows = []
    for name, f in facts.items():
        gmacs = f"{f.gmacs:.2f} at {f.size[0]}x{f.size[1]}"
        rows.append((name, f"{f.params / 1e6:.2f}", gmacs, str(f.num_classes), str(f.stride), f.paper))
    print_table("", columns, rows)


@app.command
def data(*, json: Json = False) -> None:
    """List the kinds of datasets and what each expects."""
    from .data import datasets
    from .tables import print_json, print_text

    about = {name: inspect.getdoc(datasets.get(name)) or "" for name in datasets}
    if json:
        print_json(about)
        return
    print_text("\n\n".join(f"{name}\n{indent(text, '  ')}" for name, text in about.items()))


@app.command
def report(
    runs: list[Path],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="File to write.")] = Path("results.md"),
) -> None:
    """Write finished runs as one page: table, protocol, per-class scores, learning curves and recipes.

    For example:

        featherseg report runs/* -o docs/results.md

    Args:
        runs: run folders.
    """
    from .report import write_results
    from .tables import print_text

    print_text(f"{len(runs)} runs in {write_results(runs, out)}")


def _need_training(purpose: str = "Training") -> None:
    for module in ("torch", "lightning_fabric"):
        require(module, "train", purpose)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line, or `words` as one.

    Exit codes: 0 done, 1 verification failed, 2 a mistake of the user's, 130 interrupted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop ends things as Ctrl-C does
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        command = " ".join(["featherseg", *(error.command_chain or ())])
        _stop(f"{str(error).strip().rstrip('.')}; see {command} --help", 2)
    except FeathersegError as error:
        _stop(str(error), error.exit_code)
    except BrokenPipeError:  # the reader has seen enough; Python would complain again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _stop(f"{error.filename or 'system'}: {error.strerror or error}; check path, rights and free space", 2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _stop(message: str, code: int) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
