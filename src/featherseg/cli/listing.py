"""Commands that list what there is."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path
from textwrap import indent
from typing import Annotated

from cyclopts import Parameter

from .app import Json, app, need_training


@app.command
def models(*, json: Json = False) -> None:
    """List the networks with their parameters, multiply-accumulates and stride."""
    need_training("Listing networks")
    from ..models import list_models, model_facts
    from ..tables import print_json, print_table

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
    from ..data import datasets
    from ..tables import print_json, print_text

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
    from ..report import write_results
    from ..tables import print_text

    print_text(f"{len(runs)} runs in {write_results(runs, out)}")
