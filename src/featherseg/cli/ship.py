"""Commands that make networks smaller and hand them over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from .app import Data, Json, Kind, Quiet, Threads, app, need_training


@app.command
def ship(
    run: Path,
    /,
    *,
    to: Annotated[
        str | None, Parameter(help="Targets with commas between, such as onnx,openvino,web,triton,ovms.")
    ] = None,
    int8: Annotated[bool | None, Parameter(help="Quantised files too.", show_default=False)] = None,
    prune: Annotated[float | None, Parameter(help="Share of channels to remove, such as 0.3.")] = None,
    epochs: Annotated[int | None, Parameter(help="How long a pruned network is trained again.")] = None,
    max_drop: Annotated[float | None, Parameter(help="mIoU, 0-1, that a step may cost; 0.01 is one point.")] = None,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder to write.")] = Path("dist"),
    data: Data = None,
    kind: Kind = None,
    terms: Annotated[str, Parameter(help="Terms of use of the data, for the model card.", show_default=False)] = "",
    golden: Annotated[Path | None, Parameter(help="Image that goes along; by default the first to validate.")] = None,
    pictures: Annotated[
        int | None, Parameter(help="Worst images to show; with 0 no picture of the data goes along.")
    ] = None,
    threads: Threads = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Turn a run into a folder of proven files: prune, train again, export, quantise, compare, report.

    What is left out is as the [ship] section of the run's recipe says.

    For example:

        featherseg ship runs/camvid_fastsegnet --to onnx,openvino --int8 --prune 0.3 -o dist

    Args:
        run: run folder or weights file.
    """
    need_training("Shipping")
    from ..core.config import ShipConfig
    from ..core.progress import show_progress
    from ..core.recipes import config_from_dict
    from ..shipping.pipeline import ship as ship_run
    from ..shipping.report.rows import file_rows, step_rows
    from ..training.run_folder import RunFolder
    from .tables import print_json, print_table, print_text

    show_progress(not quiet)
    settings = {
        "to": [name.strip() for name in to.split(",")] if to is not None else None,
        "int8": int8,
        "prune": prune,
        "finetune_epochs": epochs,
        "max_drop": max_drop,
        "threads": threads,
        "pictures": pictures,
    }
    own = RunFolder(run).config.ship if run.is_dir() else ShipConfig()
    given = {key: value for key, value in settings.items() if value is not None}
    config = config_from_dict({"ship": msgspec.to_builtins(own) | given}).ship
    report = ship_run(run, out, config, data=data, kind=kind, terms=terms, golden=golden)
    if json:
        print_json(report.to_dict())
        return
    print_table("steps", *step_rows(report))
    print_table("files", *file_rows(report))
    print_text(f"{out}, with its report in {out / 'report.html'}")
