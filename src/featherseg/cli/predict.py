"""Commands that segment pictures."""

from __future__ import annotations

from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..core.errors import ConfigError
from .app import ALPHA, MODEL_HELP, Alpha, Background, FitText, Json, Out, Quiet, SizeText, Threads, app

if TYPE_CHECKING:
    from ..core.types import ClassSet


@app.command
def predict(
    model_and_images: Annotated[list[str], Parameter(help=f"{MODEL_HELP}; then images and folders of images.")],
    /,
    *,
    out: Out = Path("predictions"),
    size: SizeText = None,
    fit: FitText = None,
    threads: Threads = None,
    overlays: Annotated[bool, Parameter(negative="--no-overlays", help="Write overlays beside the masks.")] = True,
    alpha: Alpha = ALPHA,
    background: Background = False,
    confidence: Annotated[
        bool,
        Parameter(
            help="Write how sure each mask is, as grey PNGs, and let overlays fade where it is not.",
            show_default=False,
        ),
    ] = False,
    threshold: Annotated[
        tuple[str, ...],
        Parameter(help="Ignore (255) pixels that are less sure: 0.5, or of a class car=0.7. May be repeated."),
    ] = (),
    polygons: Annotated[
        bool, Parameter(help="Give the lines of --json FILE outlines, too.", show_default=False)
    ] = False,
    resume: Annotated[
        bool, Parameter(help="Keep results newer than network and image, such as of a call that was stopped.")
    ] = False,
    quiet: Quiet = False,
    lines: Annotated[
        Path | None,
        Parameter(help="JSONL file: a line for each image as soon as it is done. Or --json FILE.jsonl."),
    ] = None,
    json: Json = False,
) -> None:
    """Segment images: palette PNG masks of class ids, and overlays with legend. Subfolders are kept.

    For example:

        featherseg predict street.jpg
        featherseg predict mine.onnx photos/ -o out
        featherseg predict mine.onnx photos/ -o out --confidence --threshold 0.5 --threshold car=0.7
        featherseg predict mine.onnx photos/ -o out --json out.jsonl --polygons
    """
    from ..core.formatting import percent
    from ..core.progress import counting, show_progress
    from ..evaluation.opening import open_segmenter, split_model
    from ..runtime.predict import find_images
    from ..runtime.predict import predict as predict_images
    from .app import parse_size
    from .tables import print_json, print_table, print_text

    show_progress(not quiet)
    if polygons and lines is None:
        raise ConfigError("--polygons are outlines in a file of lines; name one with --json out.jsonl")
    model, images = split_model(model_and_images)
    if not images:
        raise ConfigError(f"{model} is a network; name images or folders of images after it")
    found = find_images(images, out)
    segmenter = open_segmenter(model, size=parse_size(size), fit=fit, threads=threads)
    with counting("predict", len(found)) as progress:
        result = predict_images(
            segmenter,
            found,
            out,
            overlays=overlays,
            alpha=alpha,
            background=background,
            confidence=confidence,
            threshold=parse_thresholds(threshold, segmenter.artifact.classes),
            lines=lines,
            polygons=polygons,
            resume_from=model if resume else None,
            progress=progress,
        )
    if json:
        written = {"images": [image.name.as_posix() for image in found], "masks": [str(p) for p in result.masks]}
        written |= {"overlays": [str(p) for p in result.overlays]}
        print_json(written | ({"confidence": [str(p) for p in result.confidence]} if confidence else {}))
        return
    rows = [(name, f"{percent(share)} %") for name, share in sorted(result.coverage.items(), key=lambda kv: -kv[1])]
    print_table(f"{len(result.masks)} images", ("class", "share of pixels"), rows)
    places = [f"masks in {out / 'masks'}"] + [f"overlays in {out / 'overlays'}"] * overlays
    places += [f"confidence in {out / 'confidence'}"] * confidence + [f"a line for each image in {lines}"] * bool(lines)
    print_text(", ".join(places))


def parse_thresholds(texts: tuple[str, ...], classes: ClassSet) -> float | dict[str, float] | None:
    """Return what ``--threshold`` says: a probability for all, or one by class, the common one for those not named."""
    common: float | None = None
    own: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError as error:
            raise ConfigError(f"--threshold is {text!r}; write a probability such as 0.5, or car=0.7") from error
        if name:
            classes.index(name)
            own[name] = value
        else:
            common = value
    if common is None:
        return own or None
    return dict.fromkeys(classes.names, common) | own if own else common


@app.command
def video(
    model_and_source: Annotated[
        list[str] | None,
        Parameter(help=f"{MODEL_HELP}; then a video, a folder of images, or what --source takes."),
    ] = None,
    /,
    *,
    source: Annotated[
        str | None,
        Parameter(help="A camera's number (0 is the first) or device, rtsp://… or another URL, a file or a folder."),
    ] = None,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help="Video to write, such as out.mp4.")] = None,
    size: SizeText = None,
    fit: FitText = None,
    threads: Threads = None,
    mode: Annotated[
        Literal["overlay", "mask", "side-by-side"] | None, Parameter(help="What is written; overlay by default.")
    ] = None,
    alpha: Alpha = ALPHA,
    background: Background = False,
    smooth: Annotated[
        float | None, Parameter(help="Share that earlier frames have in each mask, such as 0.5; none by default.")
    ] = None,
    limit: Annotated[int | None, Parameter(help="Stop after so many frames.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Segment a video file, a folder of frames, a camera or a stream; write a video with --out, else only time it.

    For example:

        featherseg video drive.mp4 -o segmented.mp4
        featherseg video mine.onnx drive.mp4 -o segmented.mp4 --mode side-by-side
        featherseg video --source 0 -o camera.mp4 --limit 500
        featherseg video mine.onnx --source rtsp://camera/stream -o street.mp4
    """
    from ..core.outputs import writing
    from ..core.progress import bars, logger, show_progress
    from ..evaluation.opening import open_segmenter, split_model
    from ..runtime.draw import check_alpha
    from ..runtime.video.pipeline import segment_video
    from ..runtime.video.smoothing import Smoothed
    from ..runtime.video.sources import open_source
    from .app import parse_size
    from .tables import print_json, print_latency, print_text

    show_progress(not quiet)
    if mode is not None and out is None:
        raise ConfigError(f"--mode {mode} says what is written, but nothing is; give --out too")
    words = [*(model_and_source or ()), *([] if source is None else [source])]
    model, sources = split_model(words) if words else (None, [])
    check_alpha(alpha)
    if model is None or len(sources) != 1:
        raise ConfigError(
            f"video takes one source; got {len(sources)}: name a video file, a folder of images, a camera or a URL"
        )
    segmenter = open_segmenter(model, size=parse_size(size), fit=fit, threads=threads)
    segment = segmenter if smooth is None else Smoothed(segmenter, smooth)
    opened = open_source(words[-1], sound=out is not None)  # as it was written: a path would garble a URL
    expected = [number for number in (opened.total, limit) if number is not None]
    with bars("{task.fields[rate]}") as progress:
        task = progress.add_task("frames", total=min(expected, default=None), rate="")

        def advance(*_: Any) -> None:
            speed = progress.tasks[task].speed
            progress.update(task, advance=1, rate=f"{speed:.1f} frames/s" if speed else "")

        with writing(out):
            result = segment_video(
                segment,
                opened,
                out,
                on_frame=advance,
                mode=mode or "overlay",
                overlay=methodcaller("overlay", alpha=alpha, background=background),
                limit=limit,
            )
    for note in result.notes:
        logger.warning(note)
    if json:
        figures = {"frames": result.frames, "seconds": result.seconds, "fps": result.fps}
        losses = {"dropped": result.dropped, "skipped": result.skipped, "notes": list(result.notes)}
        print_json(figures | losses | {"latency": result.latency.to_dict()})
        return
    print_latency(result.latency)
    lost = [f"{result.dropped} dropped"] * opened.live + [f"{result.skipped} damaged left out"] * (result.skipped > 0)
    print_text(
        f"{result.frames} frames in {result.seconds:.1f} s: {result.fps:.1f} frames/s end to end"
        + "".join(f", {part}" for part in lost)
    )
