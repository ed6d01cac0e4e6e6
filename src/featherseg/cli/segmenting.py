"""Commands that segment pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ..errors import ConfigError
from .app import MODEL_HELP, Json, Out, Quiet, SizeText, Threads, app


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
    from ..inference import find_images, open_segmenter, parse_size, split_model
    from ..inference import predict as predict_images
    from ..progress import counting
    from ..tables import percent, print_json, print_table, print_text

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
    from ..inference import open_segmenter, parse_size, split_model
    from ..progress import bars
    from ..runtime.video import segment_video
    from ..tables import print_json, print_latency, print_text

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
