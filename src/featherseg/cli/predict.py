"""Commands that segment pictures."""

from __future__ import annotations

from contextlib import closing
from logging import INFO, WARNING
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..core.errors import ConfigError
from .app import ALPHA, MODEL_HELP, Alpha, Background, FitText, Json, Quiet, RayFlag, SizeText, Threads, Workers, app

if TYPE_CHECKING:
    from ..core.types import ClassSet
    from ..runtime.segmenter import Segmenter


@app.command
def predict(
    model_and_images: Annotated[list[str], Parameter(help=f"{MODEL_HELP}; then images and folders of images.")],
    /,
    *,
    out: Annotated[str, Parameter(name=["--out", "-o"], help="Folder to write to.")] = "predictions",
    size: SizeText = None,
    fit: FitText = None,
    threads: Threads = None,
    overlays: Annotated[
        bool | None,
        Parameter(negative="--no-overlays", help="Write overlays beside the masks; the default but with --ray."),
    ] = None,
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
    ray: RayFlag = False,
    workers: Workers = None,
    column: Annotated[
        str | None, Parameter(help="With --ray: column of Parquet tables that holds the pictures or their addresses.")
    ] = None,
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
        featherseg predict mine.onnx s3://bucket/photos -o s3://bucket/out --ray --resume

    With --ray, several processes share the work, on the cluster that RAY_ADDRESS names or else on this machine. Images
    may be addresses and Parquet tables too, an index of Parquet files is written beside the masks, and an image that
    cannot be read is a row in it.
    """
    from ..core.formatting import percent
    from ..core.progress import counting, show_progress
    from ..evaluation.opening import open_segmenter, split_model
    from ..runtime.predict import find_images
    from ..runtime.predict import predict as predict_images
    from .app import parse_size
    from .spread import need_ray, segment_many
    from .tables import print_json, print_table, print_text

    show_progress(not quiet)
    if polygons and lines is None:
        raise ConfigError("--polygons are outlines in a file of lines; name one with --json out.jsonl")
    model, images = split_model(model_and_images)
    if not images:
        raise ConfigError(f"{model} is a network; name images or folders of images after it")
    if ray:
        here = {"--confidence": confidence, "--threshold": threshold, "--json FILE": lines}
        if given := [name for name, value in here.items() if value]:
            raise ConfigError(f"{given[0]} does not go with --ray; its index has each image's mean confidence")
        segment_many(
            model,
            model_and_images[-len(images) :],  # as they were written: a path would garble an address
            out,
            workers=workers,
            threads=1 if threads is None else threads,
            size=parse_size(size),
            fit=fit,
            overlays=bool(overlays),
            alpha=alpha,
            background=background,
            column=column or "",
            resume=resume,
            json=json,
        )
        return
    need_ray({"--workers": workers, "--column": column}, [*model_and_images, out])
    folder, overlays = Path(out), overlays is not False
    found = find_images(images, folder)
    segmenter = open_segmenter(model, size=parse_size(size), fit=fit, threads=threads)
    with counting("predict", len(found)) as progress:
        result = predict_images(
            segmenter,
            found,
            folder,
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
    places = [f"masks in {folder / 'masks'}"] + [f"overlays in {folder / 'overlays'}"] * bool(overlays)
    places += [f"confidence in {folder / 'confidence'}"] * confidence + [f"a line for each image in {lines}"] * bool(
        lines
    )
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
    fps: Annotated[
        float | None,
        Parameter(name="--fps", help="Frames per second to hold: chooses size, and file of a model folder, by trial."),
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
        featherseg video dist/ --source 0 -o camera.mp4 --fps 30
    """
    from ..core.outputs import writing
    from ..core.progress import bars, logger, show_progress
    from ..evaluation.opening import open_segmenter, split_model
    from ..runtime.draw import check_alpha
    from ..runtime.video.pace import choose_pace, rehearse
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
    if fps is not None and (size is not None or fit is not None):
        raise ConfigError("--fps chooses how frames come to the network; leave --size and --fit out")
    how: dict[str, Any] = {
        "mode": mode or "overlay",
        "overlay": methodcaller("overlay", alpha=alpha, background=background),
    }

    def smoothed(plain: Segmenter) -> Any:
        return plain if smooth is None else Smoothed(plain, smooth)

    given = words[-1]  # as it was written: a path would garble a URL
    pace = None
    if fps is None:
        segment = smoothed(open_segmenter(model, size=parse_size(size), fit=fit, threads=threads))
    else:
        with closing(open_source(given)) as frames:
            pace = choose_pace(model, fps, lambda each: rehearse(smoothed(each), frames, out, **how), threads=threads)
        logger.log(INFO if pace.held else WARNING, str(pace))
        segment = smoothed(pace.segmenter)
    opened = open_source(given, sound=out is not None)
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
                limit=limit,
                **how,
            )
    for note in result.notes:
        logger.warning(note)
    if json:
        figures = {"frames": result.frames, "seconds": result.seconds, "fps": result.fps}
        losses = {"dropped": result.dropped, "skipped": result.skipped, "notes": list(result.notes)}
        chosen = {"pace": pace.to_dict()} if pace else {}
        print_json(figures | losses | chosen | {"latency": result.latency.to_dict()})
        return
    print_latency(result.latency)
    lost = [f"{result.dropped} dropped"] * opened.live + [f"{result.skipped} damaged left out"] * (result.skipped > 0)
    print_text(
        f"{result.frames} frames in {result.seconds:.1f} s: {result.fps:.1f} frames/s end to end"
        + "".join(f", {part}" for part in lost)
    )
