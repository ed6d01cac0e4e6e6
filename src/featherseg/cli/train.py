"""Commands that train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..core.errors import ConfigError
from .app import Json, Out, Quiet, app, need_training


@app.command
def demo(*, out: Out = Path("runs"), quiet: Quiet = False, json: Json = False) -> None:
    """Go the whole way on generated street scenes: train, evaluate, export, verify, segment. Needs no data.

    For example:

        featherseg demo -o runs
    """
    need_training()
    from ..core.progress import show_progress
    from ..shipping.demo import run_demo
    from .tables import print_json, print_latency, print_table, print_text

    show_progress(not quiet)
    result = run_demo(out)
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
    time: Annotated[
        str | None, Parameter(help="What all may take, such as 90s, 20m or 1h30m; epochs are planned for it.")
    ] = None,
    resume: Annotated[Path | None, Parameter(help="Run folder to go on with.")] = None,
    find_lr: Annotated[
        bool,
        Parameter(name="--find-lr", help="Try learning rates for up to 100 steps; keep nothing.", show_default=False),
    ] = False,
    folds: Annotated[int | None, Parameter(help="Train once per fold of the training and validation images.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a network: on a folder alone, or as a TOML recipe and key=value settings say.

    Of a folder, layout and classes are inferred, the data is looked at, and each setting is chosen and explained.

    For example:

        featherseg train photos
        featherseg train photos --time 20m
        featherseg train recipes/camvid_fastsegnet.toml data.root=~/CamVid
        featherseg train data.root=photos model.name=jetnet train.epochs=20
        featherseg train --resume runs/camvid_fastsegnet
        featherseg train --resume runs/camvid_fastsegnet train.epochs=200
        featherseg train photos --folds 5

    Args:
        recipe: TOML file, or a folder of images and masks; settings may stand in its place.
        overrides: dotted.key=value settings, such as optim.lr=1e-3.
    """
    need_training()
    from ..core.durations import parse_duration
    from ..core.progress import show_progress
    from ..core.recipes import load_config
    from ..training.fit import fit, resume_run
    from ..training.folds import fit_folds, holds_folds, resume_folds
    from ..training.given import configured
    from .tables import print_json, print_scores, print_table, print_text

    show_progress(not quiet)
    seconds = None if time is None else parse_duration(time, "--time")
    if recipe is not None and "=" in recipe:
        overrides, recipe = (recipe, *overrides), None

    if seconds is not None and (find_lr or resume is not None):
        other = "--find-lr, which trains no run" if find_lr else "--resume, where train.epochs alone may change"
        raise ConfigError(f"--time is given beside {other}; leave one of them out")

    if folds is not None and (resume is not None or find_lr):
        other = "--find-lr keeps nothing" if find_lr else f"--resume goes on with {resume} and its folds"
        raise ConfigError(f"--folds {folds} begins anew, and {other}; leave one of them out")
    if find_lr:
        if resume is not None:
            raise ConfigError(f"--find-lr begins anew, and --resume goes on with {resume}; leave one of them out")
        from ..training.lr_finder import find_lr as sweep

        rates = sweep(configured(recipe, overrides))
        print_json(rates.to_dict()) if json else print_text(str(rates))
        return
    if folds is not None or (resume is not None and holds_folds(resume)):
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError("folds are trained one after the other by one process; start them without torchrun")
        if resume is not None and (recipe is not None or overrides):
            raise ConfigError(f"--resume goes on with the folds in {resume} as they are; leave other settings out")
        if folds is not None:
            each = None if seconds is None else seconds / max(folds, 1)  # the time is for all of them
            found = fit_folds(configured(recipe, overrides, seconds=each), folds)
        else:
            found = resume_folds(resume or "")
        if json:
            print_json(found.to_dict())
            return
        print_table("", found.columns, found.rows)
        print_text(f"{found.note}\nrun {found.path}")
        return
    if resume is not None:
        if recipe is not None or {text.partition("=")[0].strip() for text in overrides} - {"train.epochs"}:
            raise ConfigError(
                f"--resume goes on with {resume} as it was configured, and train.epochs alone may change; leave the "
                "other settings out"
            )
        result = resume_run(resume, epochs=load_config(None, overrides).train.epochs if overrides else None)
    else:
        result = fit(configured(recipe, overrides, seconds=seconds))
    if int(os.environ.get("RANK", "0")):
        return  # torchrun's other processes have the same result
    if json:
        print_json({"run": str(result.path), "best_epoch": result.best_epoch, **result.best.to_dict()})
        return
    print_scores(result.best)
    print_text(f"best epoch {result.best_epoch} of {result.epochs}; {result.seconds / 60:.1f} min; run {result.path}")
