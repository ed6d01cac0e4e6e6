"""The command that averages the weights of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..core.errors import ConfigError
from .app import Data, Json, Kind, Quiet, Split, app, need_training

if TYPE_CHECKING:
    from ..data.datasets import SegmentationDataset
    from ..evaluation.result import EvalResult
    from ..models.checkpoint import Checkpoint


@app.command
def soup(
    runs: list[Path],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Weights file to write.")] = Path("soup.safetensors"),
    greedy: Annotated[
        bool, Parameter(help="Put in, the best first, only runs with which the mIoU does not fall.", show_default=False)
    ] = False,
    data: Data = None,
    kind: Kind = None,
    split: Split = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Average the weights of runs that began from the same weights, and score the soup beside each of them.

    The file is a network like any other: it can be exported, evaluated, or trained on with model.init. Scores are of
    the validation split of the first run. --greedy chooses by them, so its soup has to be judged on other images.

    For example:

        featherseg soup runs/first runs/second runs/third -o soup.safetensors
        featherseg soup runs/first runs/second runs/third --greedy -o soup.safetensors

    Args:
        runs: run folders or weights files of one network, with the same options and classes.
    """
    need_training("Averaging weights")
    from ..core.outputs import writing
    from ..core.progress import logger, show_progress
    from ..evaluation.opening import open_labelled
    from ..models.checkpoint import load_checkpoint, save_checkpoint
    from ..models.soup import greedy_soup, require_alike
    from ..models.soup import soup as mean_of
    from .tables import print_json

    show_progress(not quiet)
    if out.suffix.lower() != ".safetensors":
        raise ConfigError(f"--out is {out}; weights are written as .safetensors")
    if len(runs) < 2:
        raise ConfigError(f"a soup of {runs[0]} alone is that run; give two or more")
    if again := next((run for i, run in enumerate(runs) if run in runs[:i]), None):
        raise ConfigError(f"{again} is given twice; give each run once")
    names = [str(run) for run in runs]
    checkpoints = [load_checkpoint(run) for run in runs]
    require_alike(checkpoints, names)
    dataset = open_labelled(runs[0], checkpoints[0].training, root=data, kind=kind, split=split)
    for run in _trained_elsewhere(runs):
        logger.warning(f"warning: {run} has other data than {runs[0]}: it may have been trained on what is scored here")
    with writing(out):
        scores = [_score(checkpoint, dataset, name) for checkpoint, name in zip(checkpoints, names, strict=True)]
        taken = tuple(range(len(runs)))
        if greedy:
            mious = [result.miou for result in scores]
            taken = greedy_soup(checkpoints, names, mious, lambda tried: _score(tried, dataset, "a soup", False).miou)
        mixed = mean_of([checkpoints[i] for i in taken], [names[i] for i in taken])
        result = _score(mixed, dataset, "the soup")
        mixed.training["val_miou"] = round(result.miou, 6)
        save_checkpoint(out, mixed)
    rows = [
        {"run": name, "miou": each.miou, "boundary_f1": each.boundary_f1, "taken": i in taken}
        for i, (name, each) in enumerate(zip(names, scores, strict=True))
    ]
    whole = {"miou": result.miou, "boundary_f1": result.boundary_f1}
    if json:
        print_json({"path": str(out), "greedy": greedy, "protocol": result.protocol, "runs": rows, "soup": whole})
    else:
        _print(rows, whole, result, out)


def _score(checkpoint: Checkpoint, dataset: SegmentationDataset, name: str, boundary: bool = True) -> EvalResult:
    """Score a network at the images' own resolution."""
    from ..core.progress import counting
    from ..evaluation.scores import evaluate
    from ..models.session import TorchSession, describe
    from ..runtime.segmenter import Segmenter

    segmenter = Segmenter(TorchSession(checkpoint.model, describe(checkpoint.model, checkpoint.classes)))
    with counting(f"evaluate {name}", len(dataset)) as progress:
        return evaluate(segmenter, dataset, boundary=boundary, progress=progress)


def _trained_elsewhere(runs: list[Path]) -> list[Path]:
    """Return the run folders whose data are not those of the first; files say too little of theirs."""
    from ..core.recipes import load_config

    configs = {run: load_config(run / "config.toml").data for run in runs if (run / "config.toml").is_file()}
    said = {
        run: (data.name, data.root, data.train_split, data.val_split, data.options) for run, data in configs.items()
    }
    return [run for run in said if runs[0] in said and said[run] != said[runs[0]]]


def _print(rows: list[dict[str, Any]], whole: dict[str, float], result: EvalResult, out: Path) -> None:
    """Print the table, the protocol, and whether it was worth it."""
    from ..core.formatting import percent
    from .tables import print_table, print_text

    listed = [(r["run"], percent(r["miou"]), percent(r["boundary_f1"]), "yes" if r["taken"] else "no") for r in rows]
    table = [*listed, ("soup", percent(whole["miou"]), percent(whole["boundary_f1"]), "")]
    print_table("", ("run", "mIoU", "boundary F1", "in the soup"), table)
    print_text(result.summary())
    best = max(rows, key=lambda row: row["miou"])
    lead = 100 * (whole["miou"] - best["miou"])
    compared = f"{abs(lead):.2f} points of mIoU {'below' if lead < 0 else 'above'} {best['run']}, the best run"
    all_in = all(row["taken"] for row in rows)
    print_text(f"{out}: {compared}{'; try --greedy' if lead < 0 and all_in else ''}")
