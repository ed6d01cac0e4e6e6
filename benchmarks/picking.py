"""Is the pick as good as training everything? Networks that are in time, each trained to the end, against the pick.

    python benchmarks/picking.py DATA --fps 30 [--budget 1h] [--networks a,b,…] [--count 8] [--epochs 16] [--out FOLDER]

The pick is made first, or taken from its study where that is finished. Then each network that was in time there is
trained as its usual recipe says (or for --epochs), judged as the finalists were, and set beside the pick's own full
training. Run folders are gone on with after a stop; what is finished is read. With --estimate nothing is trained: it
prints what each training would take, by a few steps of it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from featherseg.core.config import Config
from featherseg.core.durations import duration, parse_duration
from featherseg.core.progress import show_progress
from featherseg.picking.candidates import Candidate, Net
from featherseg.picking.choice import difference
from featherseg.picking.finals import Finals, Judged, ways_to_judge
from featherseg.picking.pace import net_paces
from featherseg.picking.pick import Pick, PickResult
from featherseg.picking.question import Question
from featherseg.training.fit import fit
from featherseg.training.run_folder import RunFolder


def rivals(pick: Pick, result: PickResult, count: int) -> list[Net]:
    """Return the networks to train fully: the pick, and others in time, those first that were trained for longest."""
    screening = pick.known.screening
    assert screening is not None
    in_time = {each.candidate.net.slug: each.candidate.net for each in screening.fitting(pick.question.limit_ms)}
    order = [row["net"] for row in result.report["trained"]] + list(in_time)
    found = [in_time[slug] for slug in dict.fromkeys(order) if slug in in_time]
    mine = result.choice.pick.candidate.net if result.choice.pick else None
    found.sort(key=lambda net: net != mine)
    return found[:count] if count else found


def full_config(usual: Config, net: Net, out: Path, epochs: int) -> Config:
    """Return a network's whole training, which looks at the validation images ten times."""
    change = msgspec.structs.replace
    train = change(usual.train, epochs=epochs or usual.train.epochs, pictures=0)
    train = change(train, eval_every=max(train.epochs // 10, 1))
    return change(usual, name=net.slug, out=str(out), train=train)


def train_fully(config: Config) -> tuple[Path, float]:
    """Train, go on, or take what is finished; return the run folder and the hours it took in all."""
    path = Path(config.out) / config.name
    if not (path / "result.json").is_file():
        begun = (path / "config.toml").is_file()
        fit(msgspec.structs.replace(RunFolder(path).config, out=config.out) if begun else config, resume=begun)
    return path, RunFolder(path).seconds(10**9) / 3600


def judge(pick: Pick, runs: dict[Net, Path], out: Path) -> tuple[list[Judged], dict[str, object]]:
    """Judge full trainings as pick judges its finalists."""
    screening = pick.known.screening
    assert screening is not None
    p95 = {each.candidate.key: each.timing.p95 for each in screening.results if each.timing}
    chosen: dict[Candidate, Path] = {}
    for net, run in runs.items():
        mine = [each.candidate for each in screening.results if each.candidate.net == net]
        chosen |= dict.fromkeys(ways_to_judge(mine, p95, pick.question.limit_ms), run)
    finals = Finals(out / "files", pick.val_set, pick.train_set, pick.picture, pick.question.threads)
    judged, matrices = finals.judge(chosen)
    return judged, dict(matrices)


def best_of(judged: Iterable[Judged], limit_ms: float) -> dict[Net, Judged]:
    """Return of each network the way with the best masks that is in time."""
    best: dict[Net, Judged] = {}
    for each in judged:
        net = each.candidate.net
        if each.fits(limit_ms) and (net not in best or each.miou > best[net].miou):
            best[net] = each
    return best


def main() -> None:
    """Pick, train everything fully, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("settings", nargs="*", help="of the trainings, key=value")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--budget", default="1h")
    parser.add_argument("--networks", default="")
    parser.add_argument("--count", type=int, default=8, help="networks to train fully, the pick among them; 0 for all")
    parser.add_argument("--epochs", type=int, default=0, help="of each; as its usual recipe says where left out")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/picking"))
    parser.add_argument("--estimate", action="store_true", help="print what trainings would take, and train nothing")
    asked = parser.parse_args()
    show_progress()
    question = Question(
        str(asked.data.expanduser().absolute()),
        1000 / asked.fps,
        budget=parse_duration(asked.budget, "--budget"),
        settings=tuple(asked.settings),
        networks=tuple(word for word in asked.networks.split(",") if word),
        threads=asked.threads,
    )
    begin = time.monotonic()
    pick = Pick(question, asked.out / "study")
    result = pick.run()
    print(f"the pick took {duration(result.report['seconds'])} of {duration(question.budget)}", flush=True)
    print(" ".join(result.choice.reasons), flush=True)
    chosen = rivals(pick, result, asked.count)
    configs = {net: full_config(pick.configs.get(net), net, asked.out / "full", asked.epochs) for net in chosen}
    if asked.estimate:
        total = 0.0
        classes, images = len(pick.val_set.classes), len(pick.train_set)
        paces, _ = net_paces({str(net): each for net, each in configs.items()}, classes, images, pick.frame, 600.0)
        for net, config in configs.items():
            pace = paces[str(net)]
            seconds = pace.seconds(config.train.epochs) + 5 * pace.overhead
            total += seconds
            print(f"{net}: {config.train.epochs} epochs, {duration(seconds)}", flush=True)
        print(f"{len(configs)} full trainings: {duration(total)}")
        return
    runs, hours = {}, {}
    for net, config in configs.items():
        runs[net], hours[net] = train_fully(config)
        print(f"{net}: {hours[net]:.2f} h", flush=True)
    judged, matrices = judge(pick, runs, asked.out)
    best = best_of(judged, question.limit_ms)
    order = sorted(best, key=lambda net: -best[net].miou)
    mine = result.choice.pick.candidate.net if result.choice.pick else None
    print("\n| network, fully trained | way | mIoU | boundary F1 | p95 ms | hours |\n|---|---|---|---|---|---|")
    for net in order:
        each = best[net]
        timing = each.timing
        star = " **(pick)**" if net == mine else ""
        print(
            f"| {net}{star} | {each.candidate.way} | {100 * each.miou:.2f} | {100 * each.boundary_f1:.2f} | "
            f"{timing.p95 if timing else 0:.1f} | {hours[net]:.2f} |"
        )
    if mine in best and order:
        top = best[order[0]]
        gap = 100 * (top.miou - best[mine].miou)
        low, high = difference(matrices[top.candidate.key], matrices[best[mine].candidate.key])  # type: ignore[arg-type]
        print(
            f"\nthe pick is {gap:.2f} points of mIoU below the best that is in time (90 % of resamplings: "
            f"{100 * low:.2f} to {100 * high:.2f}); all {len(order)} trainings took {sum(hours.values()):.1f} h, "
            f"this call {duration(time.monotonic() - begin)}"
        )
    table = {str(net): best[net].to_dict() | {"hours": hours[net]} for net in order}
    (asked.out / "full.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
