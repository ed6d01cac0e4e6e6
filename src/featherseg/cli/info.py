"""Commands that list what there is."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from json import loads
from pathlib import Path
from textwrap import indent
from typing import Annotated, Literal

from cyclopts import Parameter

from ..core.errors import ConfigError
from .app import Json, Quiet, app, need_training

SCORES = Path(__file__).parents[1] / "pretrained" / "results.json"
"""Best runs, as ``featherseg report --scores`` writes them."""


@app.command
def models(*, json: Json = False) -> None:
    """List the networks with their parameters, multiply-accumulates and stride."""
    need_training("Listing networks")
    from ..core.formatting import percent
    from ..models.factory import list_models, model_facts
    from .tables import print_json, print_table, print_text

    facts = {name: model_facts(name) for name in list_models()}
    scores = loads(SCORES.read_text(encoding="utf-8"))
    if json:
        print_json({name: asdict(fact) | {"results": scores.get(name, {})} for name, fact in facts.items()})
        return
    columns = ("network", "M parameters", "GMACs at H x W", "classes", "stride", "val mIoU", "paper")
    rows = []
    for name, f in facts.items():
        gmacs = f"{f.gmacs:.2f} at {f.size[0]}x{f.size[1]}"
        reached = ", ".join(f"{data} {percent(best['miou'])}" for data, best in scores.get(name, {}).items())
        rows.append((name, f"{f.params / 1e6:.2f}", gmacs, str(f.num_classes), str(f.stride), reached, f.paper))
    print_table("", columns, rows)
    print_text("val mIoU: the best run of each, whose recipe, protocol and curve are in docs/results_split.md")


@app.command
def data(*, json: Json = False) -> None:
    """List the kinds of datasets and what each expects."""
    from ..data.datasets import datasets
    from .tables import print_json, print_text

    about = {name: inspect.getdoc(datasets.get(name)) or "" for name in datasets}
    if json:
        print_json(about)
        return
    print_text("\n\n".join(f"{name}\n{indent(text, '  ')}" for name, text in about.items()))


@app.command
def env(*, json: Json = False) -> None:
    """List machine, versions, and which engines can run files here; for questions and bug reports."""
    from ..evaluation.environment import environment_facts
    from .tables import print_json, print_table

    facts = environment_facts()
    if json:
        print_json(facts)
        return
    rows = [(key, str(value)) for key, value in facts.items() if not isinstance(value, dict)]
    rows += [(f"engine {name}", state) for name, state in facts["engines"].items()]
    print_table("", ("", ""), [*rows, *facts["versions"].items()])


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print what makes a shell complete commands and options.

    For example:

        featherseg completion bash > ~/.local/share/bash-completion/completions/featherseg

    Args:
        shell: which.
    """
    from .tables import print_text

    print_text(app.generate_completion(prog_name="featherseg", shell=shell))


@app.command
def report(
    runs: list[Path],
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(name=["--out", "-o"], help="File to write: results.md, or report.html in the run folder."),
    ] = None,
    scores: Annotated[Path | None, Parameter(help="JSON of each network's best run, to write as well.")] = None,
    html: Annotated[bool, Parameter(help="Write each run as a page of its own.", show_default=False)] = False,
    pictures: Annotated[int, Parameter(help="Worst validation pictures on such a page; 0 segments none.")] = 6,
    quiet: Quiet = False,
) -> None:
    """Write finished runs as one page: table, protocol, per-class scores, learning curves and recipes.

    With --html, a run, finished or not, becomes one HTML file that needs nothing beside it: curves, scores of classes,
    confusion matrix, progress and worst pictures, settings.

    For example:

        featherseg report runs/* -o docs/results.md
        featherseg report runs/camvid_fastsegnet --html

    Args:
        runs: run folders.
    """
    from ..core.outputs import writing
    from ..core.progress import counting, show_progress
    from ..training.results import write_results, write_scores
    from .tables import print_text

    show_progress(not quiet)
    if html:
        from ..shipping.run_report import PAGE_NAME, report_run

        if scores is not None or (out is not None and len(runs) > 1):
            words = "--scores goes with the page of all runs" if scores is not None else "one page holds one run"
            raise ConfigError(f"{words}; leave out {'--scores' if scores is not None else '--out'} with --html")
        if pictures < 0:
            raise ConfigError(f"--pictures is {pictures}; give 0 or more")
        for run in runs:
            page = run / PAGE_NAME if out is None else out
            with writing(page), counting("report", None) as progress:
                print_text(f"{run} in {report_run(run, page, pictures=pictures, progress=progress)}")
        return
    out = Path("results.md") if out is None else out
    with writing(out, scores):
        if scores is not None:
            write_scores(runs, scores)
        print_text(f"{len(runs)} runs in {write_results(runs, out)}")
