"""The results page: its figures are the run folder's, and a run that is not whole is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from conftest import Trained
from featherseg.core.errors import CheckpointError
from featherseg.core.recipes import config_to_toml, load_config
from featherseg.training.results import read_run, results_markdown, write_results
from featherseg.training.run_log import read_log


def cells(page: str, start: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.run, tmp_path / "copy"))


def test_the_page_holds_the_folders_figures(trained: Trained) -> None:
    page = results_markdown([trained.run])
    result = json.loads((trained.run / "result.json").read_text())
    row = cells(page, "tiny")
    assert row[1:8] == ["jetnet", "0.13", row[3], "synthetic", "val", "scratch", "2"]
    assert row[3].endswith("at 64x96")
    assert row[8] == f"{100 * result['miou']:.1f}"
    assert row[9] == f"{100 * result['boundary_f1']:.1f}"
    ious = ["–" if iou is None else f"{100 * iou:.1f}" for iou in result["iou"]]
    assert cells(page, "IoU")[1:] == ious
    log = [json.loads(line) for line in (trained.run / "log.jsonl").read_text().splitlines()]
    assert cells(page, "epoch")[1:] == ["1", "2"]
    assert cells(page, "val mIoU")[1:] == [f"{100 * entry['miou']:.1f}" for entry in log]
    assert "synthetic val, 4 images, original resolution" in page
    assert f"best epoch {result['best_epoch']}" in page
    assert "averaged with decay 0.999" in page
    recipe = page.partition("```toml\n")[2].partition("```")[0]
    (trained.run.parent / "printed.toml").write_text(recipe)
    printed, config = load_config(trained.run.parent / "printed.toml"), load_config(trained.run / "config.toml")
    assert printed == msgspec.structs.replace(config, out=trained.run.parent.name)
    assert str(trained.run.parent) not in page  # folders of one machine say nothing on another
    widths = {len(line.split("|")) for line in page.splitlines() if line.startswith("| tiny") or "images/s |" in line}
    assert len(widths) == 1


def test_results_of_old_versions_lack_the_newer_scores(copy: Path) -> None:
    result = json.loads((copy / "result.json").read_text())
    page = results_markdown([copy])
    assert cells(page, "Dice")[1:] == ["–" if dice is None else f"{100 * dice:.1f}" for dice in result["dice"]]
    assert cells(page, "recall")[1:] == ["–" if each is None else f"{100 * each:.1f}" for each in result["recall"]]
    newer = ("dice", "mean_dice", "precision", "recall", "cldice", "cldice_per_class")
    (copy / "result.json").write_text(json.dumps({key: result[key] for key in result if key not in newer}))
    page = results_markdown([copy])
    assert "| Dice |" not in page
    assert cells(page, "IoU")[1:]


def test_better_runs_come_first(trained: Trained, copy: Path) -> None:
    result = json.loads((copy / "result.json").read_text())
    (copy / "result.json").write_text(json.dumps(result | {"miou": 0.999}))
    config = (copy / "config.toml").read_text().replace('name = "tiny"', 'name = "better"').replace("0.999", "0.0")
    (copy / "config.toml").write_text(config)
    page = results_markdown([trained.run, copy])
    assert page.index("## better") < page.index("## tiny")
    assert "weights not averaged" in page


def test_seeds_of_one_recipe_are_one_line(trained: Trained, copy: Path) -> None:
    first = json.loads((trained.run / "result.json").read_text())
    iou = [0.5 if iou is not None else None for iou in first["iou"]]
    (copy / "result.json").write_text(json.dumps(first | {"miou": 0.5, "iou": iou}))
    config = (
        (copy / "config.toml").read_text().replace('name = "tiny"', 'name = "tiny_s1"').replace("seed = 0", "seed = 1")
    )
    (copy / "config.toml").write_text(config)
    page = results_markdown([copy, trained.run])
    row = cells(page, "tiny")
    mean, sd = np.mean([first["miou"], 0.5]), np.std([first["miou"], 0.5], ddof=1)
    assert row[8] == f"{100 * mean:.1f} ± {100 * sd:.1f}"
    assert "seeds 0, 1" in page
    assert (
        cells(page, "IoU")[1]
        == f"{50 * (first['iou'][0] + 0.5):.1f} ± {np.std([first['iou'][0], 0.5], ddof=1) * 100:.1f}"
    )
    assert cells(page, "val mIoU, seed 1")[1:] == cells(page, "val mIoU, seed 0")[1:]
    assert page.count("## ") == 1


def test_folds_are_one_line_and_come_first(trained: Trained, tmp_path: Path) -> None:
    first = json.loads((trained.run / "result.json").read_text())
    folds = {"A": ["B", "C"], "B": ["A", "C"], "C": ["A", "B"]}
    runs = []
    for score, (fold, recordings) in zip((0.5, 0.6, 0.1), folds.items(), strict=True):
        runs.append(Path(shutil.copytree(trained.run, tmp_path / fold)))
        config = load_config(runs[-1] / "config.toml", [f"name=net_{fold}", f"distill.teacher=runs/big_{fold}"])
        data = msgspec.structs.replace(config.data, options={"recordings": recordings})
        (runs[-1] / "config.toml").write_text(config_to_toml(msgspec.structs.replace(config, data=data)))
        (runs[-1] / "result.json").write_text(json.dumps(first | {"miou": score, "boundary_f1": score}))
        log = [json.loads(line) for line in (runs[-1] / "log.jsonl").read_text().splitlines()]
        log[0].pop("miou")
        (runs[-1] / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    page = results_markdown([*runs, trained.run])
    row = cells(page, "net")
    assert row[5:7] == ["3 folds by recording", "scratch, teacher big"]
    assert row[8:10] == ["40.0", "40.0"]
    assert [cells(page, f"IoU, {fold}")[1] for fold in folds] == ["50.0", "60.0", "10.0"]
    assert all(f"{fold}, 4 images, trained on {', '.join(own)}" in page for fold, own in folds.items())
    assert page.index("## net") < page.index("## tiny")
    assert cells(results_markdown(runs[:1]), "net")[5] == "other recordings"
    assert f"; epochs {', '.join(3 * [str(first['best_epoch'])])};" in page


def test_a_folder_of_folds_is_one_line(trained: Trained, tmp_path: Path) -> None:
    first, together = json.loads((trained.run / "result.json").read_text()), tmp_path / "mine"
    for k, score in enumerate((0.2, 0.6), start=1):
        run = Path(shutil.copytree(trained.run, together / f"fold_{k}"))
        config = load_config(run / "config.toml", [f"name=fold_{k}"])
        data = msgspec.structs.replace(config.data, name="fold", options={"of": "x", "fold": k, "folds": 2})
        (run / "config.toml").write_text(config_to_toml(msgspec.structs.replace(config, data=data)))
        (run / "result.json").write_text(json.dumps(first | {"miou": score}))
    (together / "folds.json").write_text("{}")
    page = results_markdown([together])
    row = cells(page, "mine")
    assert (row[5], row[8]) == ("2 folds", "40.0")
    assert [cells(page, f"IoU, fold {k} of 2")[1] for k in (1, 2)] == ["20.0", "60.0"]
    assert "judged on images never trained on (fold 1 of 2, 4 images, trained on the other folds; fold 2" in page


def test_the_start_is_told(trained: Trained, copy: Path) -> None:
    config = (copy / "config.toml").read_text()
    config = config.replace('teacher = ""', 'teacher = "runs/big"').replace('init = ""', 'init = "runs/first"')
    (copy / "config.toml").write_text(config)
    assert cells(results_markdown([copy]), "tiny")[6] == "first, teacher big"


@pytest.mark.parametrize("name", ["result.json", "log.jsonl", "env.json"])
def test_unfinished_and_damaged_runs_are_refused(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).write_text("{torn")
    with pytest.raises(CheckpointError, match="damaged"):
        write_results([copy], tmp_path / "page.md")
    (copy / name).write_text("{}")
    with pytest.raises(CheckpointError, match="damaged") as caught:
        write_results([copy], tmp_path / "page.md")
    assert "\n" not in str(caught.value)
    if name != "result.json":
        (copy / name).unlink()
        with pytest.raises(CheckpointError, match=f"not finished: it lacks {name}"):
            write_results([copy], tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()


def test_an_unfinished_run_shows_its_curve_apart(trained: Trained, copy: Path) -> None:
    (copy / "result.json").unlink()
    config = (copy / "config.toml").read_text().replace("epochs = 2", "epochs = 9").replace('"tiny"', '"longer"')
    (copy / "config.toml").write_text(config)
    finished, _, rest = results_markdown([copy, trained.run]).partition("## Not finished")
    assert "longer" not in finished
    assert "## tiny" in finished
    log = read_log(copy)
    assert f"epoch 2 of 9, 0.00 hours, best so far {100 * max(row['miou'] for row in log):.1f}" in rest
    assert cells(rest, "val mIoU")[1:] == [f"{100 * row['miou']:.1f}" for row in log]
    (copy / "log.jsonl").write_text("")
    with pytest.raises(CheckpointError, match="no scored epoch"):
        results_markdown([copy])


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no run folder: it holds no config\.toml"):
        read_run(tmp_path)
