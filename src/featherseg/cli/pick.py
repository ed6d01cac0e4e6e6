"""The command that picks a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..core.errors import ConfigError
from .app import Json, Quiet, Threads, app, need_training


@app.command
def pick(
    folder: str,
    /,
    *overrides: str,
    fps: Annotated[float | None, Parameter(help="Pictures per second that have to be kept up with.")] = None,
    latency: Annotated[
        float | None, Parameter(help="Or ms that 95 of 100 pictures may take, from file to mask.")
    ] = None,
    on: Annotated[Path | None, Parameter(help="Times of another device, as a bundle's program wrote them.")] = None,
    budget: Annotated[str, Parameter(help="What the pick may take, such as 30m or 3h.")] = "1h",
    networks: Annotated[str, Parameter(help="Networks to choose from, commas between; all by default.")] = "",
    scales: Annotated[str, Parameter(help="Input sizes, as shares of the pictures' own.")] = "1,0.75,0.5",
    seed: Annotated[int, Parameter(help="Of trainings, and of the resampling that finds ties.")] = 0,
    study: Annotated[Path | None, Parameter(help="Folder of the study; runs/pick_NAME by default.")] = None,
    ray: Annotated[bool, Parameter(help="Train on a Ray cluster.", show_default=False)] = False,
    ship: Annotated[bool, Parameter(help="Train the pick to the end, and ship it.", show_default=False)] = False,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder that --ship writes.")] = Path("dist"),
    threads: Threads = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find the network, size, precision and engine with the best masks in the time there is for a picture.

    Every network is timed on this machine first, whatever its weights; what is quick enough is trained on the folder,
    the better half ever longer, and the finalists are judged as they would be deployed. Begun again after a stop, the
    command goes on; begun twice, both share the work. The page says what was found, and why.

    For example:

        featherseg pick photos --fps 30
        featherseg pick photos --latency 20 --on pi5.json --budget 3h --ship -o dist
        featherseg pick photos --fps 15 --networks fastsegnet,jetnet --budget 20m

    Args:
        folder: of images and masks.
        overrides: dotted.key=value settings of the trainings, such as data.val_split=test.
    """
    need_training("Picking a network")
    from ..core.durations import parse_duration
    from ..core.formatting import DASH, percent, size
    from ..core.progress import show_progress
    from ..picking.devices import read_device
    from ..picking.pick import PAGE, Pick
    from ..picking.question import Question
    from ..picking.recipe import NAME, train_and_ship
    from .tables import print_json, print_table, print_text

    show_progress(not quiet)
    if (fps is None) == (latency is None):
        raise ConfigError("a pick needs either --fps, such as 30, or --latency in ms; give one of them")
    if fps is not None and not 0 < fps < 1e4:
        raise ConfigError(f"--fps is {fps:g}; give pictures per second over 0")
    device = None if on is None else read_device(on)
    place = Path(folder).expanduser()
    question = Question(
        data=str(place.absolute()) if place.exists() else folder,
        limit_ms=1000 / fps if fps is not None else float(latency or 0),
        budget=parse_duration(budget, "--budget"),
        settings=tuple(overrides),
        networks=tuple(_words(networks)),
        scales=tuple(_scale(word) for word in _words(scales)),
        threads=threads,
        seed=seed,
        device=device.name if device else "",
        fingerprint=device.fingerprint if device else "",
    )
    result = Pick(question, study or Path("runs") / f"pick_{place.resolve().name}", device, ray=ray).run()
    if result.recipe is None:
        raise ConfigError(f"{' '.join(result.choice.reasons)} See {result.folder / PAGE}")
    shipped = train_and_ship(result.recipe, out) if ship else None
    if json:
        print_json(result.report)
        return
    rows = []
    for each in sorted(result.report["judged"], key=lambda row: -(row["miou"] or 0.0)):
        timing = each["timing"] or {}
        verdict = "the pick" if each["candidate"] == result.report["choice"]["pick"] else each["failure"]
        times = [f"{timing[q]:.1f}" if timing else DASH for q in ("p50", "p95")]
        scores = [percent(each[score]) for score in ("miou", "boundary_f1")]
        rows.append((each["name"], *scores, *times, size(each["bytes"]), verdict))
    print_table("finalists", ("candidate", "mIoU", "boundary F1", "p50 ms", "p95 ms", "size", ""), rows)
    print_text(" ".join(result.choice.reasons))
    print_text(f"page {result.folder / PAGE}")
    print_text(f"recipe {result.folder / NAME}")
    if shipped is not None:
        print_text(f"shipped to {out}")


def _words(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]


def _scale(word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise ConfigError(f"--scales names {word!r}; give shares of the pictures' size, such as 1,0.75,0.5") from error
