"""From a folder and a time for each picture to a network: screen, train what is quick enough, judge, choose."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.config import Config
from ..core.durations import duration
from ..core.errors import ConfigError, DataError, FeathersegError
from ..core.machine import available_threads, load
from ..core.progress import counting, hidden, logger
from ..data.datasets import FileDataset
from ..training.quickstart import quick_start
from .candidates import Candidate, Net, candidates, nets, variants, ways_here
from .choice import Choice, choose
from .configs import NetConfigs, describe_start, open_data
from .devices import DeviceTimings
from .files import CandidateFiles
from .finals import Finals, Judged, ways_to_judge
from .layer_costs import net_cost
from .pace import net_paces
from .page import write_page
from .plan import FINALISTS, Plan, last_epochs, make_plan, survivors
from .question import Question
from .recipe import final_recipe, write_recipe
from .report import Known, build_report, write_report
from .rungs import Rungs
from .screening import Screened, Screener, Screening, export_seconds, timing_seconds
from .showing import picture_rows
from .study import Study

PAGE = "report.html"
JUDGING = 12.0
"""Seconds that exporting, quantising and timing a finalist take, about, beside its scores."""
SCORING = 0.02
"""Seconds that a picture's scores take beside its mask."""
MOST_JUDGING = 0.3
"""Of the budget, for judging."""


@dataclass(frozen=True)
class PickResult:
    """What a pick ended with.

    Args:
        report: as ``report.json`` has it.
        folder: of the study, with the page.
        choice: the pick, where there is one.
        recipe: that trains it to the end; None where there is no pick.
    """

    report: dict[str, Any]
    folder: Path
    choice: Choice
    recipe: Config | None


class Pick:
    """One process's part in a study, which others may share.

    Args:
        question: what is asked.
        folder: of the study.
        device: times of another device; None for this machine.
        ray: whether trainings run on a Ray cluster.

    Raises:
        ConfigError: the question cannot be answered.
        DataError: the data cannot be used.
    """

    def __init__(
        self, question: Question, folder: Path, device: DeviceTimings | None = None, *, ray: bool = False
    ) -> None:
        self._begin = time.monotonic()
        self.question, self.device, self.ray = question, device, ray
        self._variants = variants(question.networks)
        self._nets = nets(self._variants, question.scales)
        with hidden():
            base = quick_start(question.data, [*question.settings, "model.name=jetnet"]).config
        self.train_set, self.val_set = open_data(base)
        if not len(self.val_set):
            raise DataError(f"{question.data} has no validation images; a pick needs some to compare by")
        image = self.val_set.read(0)[0]
        self.frame = image.shape[0], image.shape[1]
        if device is not None and device.size != self.frame:
            theirs, ours = ("x".join(map(str, size)) for size in (device.size, self.frame))
            raise ConfigError(
                f"--on {device.path} holds times of frames of {theirs}, but pictures of {question.data} are {ours}; "
                f"make the bundle with --size {ours} and run it there again"
            )
        self.study = Study(folder, question)
        self.known = Known(
            self.study,
            frame=self.frame,
            images=(len(self.train_set), len(self.val_set)),
            classes=self.val_set.classes.names,
        )
        if device is not None:
            self.known.device, self.known.facts = device.name, device.facts
            self.known.notes += device.notes
        place = self.study.folder / "configs"
        self.configs = NetConfigs(
            question.data, question.settings, question.seed, place, self.frame, self.train_set.classes
        )

    def run(self) -> PickResult:
        """Find the answer, or go on looking for it; whenever that ends, the page says what is known.

        Raises:
            ConfigError: nothing is in time, or the budget is too short.
        """
        try:
            with self.study.clock.running(self._begin):
                self._screen()
                plan = self._plan()
                finalists = self._train(plan)
                choice = self._judge(plan, finalists)
                self.known.state = "complete" if choice.pick else "nothing"
                recipe = self._recipe(choice)
        except (KeyboardInterrupt, FeathersegError):
            with suppress(FeathersegError, OSError):
                self.write()
            raise
        report = self.write(choice)
        return PickResult(report, self.study.folder, choice, recipe)

    def write(self, choice: Choice | None = None) -> dict[str, Any]:
        """Write ``report.json`` and the page of what is known by now."""
        report = build_report(self.known)
        write_report(report, self.study.folder)
        shown = picture_rows(choice, self.val_set, self.question.threads) if choice is not None else []
        write_page(report, shown, self.study.folder / PAGE)
        return report

    def _screen(self) -> None:
        """Find out which candidates are quick enough."""
        limit = self.question.limit_ms
        if self.device is not None:
            found = self._by_device(self.device)
        else:
            ways, self.known.missing = ways_here()
            chosen = candidates(self._nets, ways)
            found = Screening.from_dict(self.study.once("screening", lambda: self._timed(chosen).to_dict()), chosen)
        self.known.screening = found
        if not any(result.near(limit) for result in found.results):
            fastest = found.fastest()
            if fastest is None or fastest.timing is None:
                raise ConfigError(f"no candidate could be timed: {_first_reason(found)}")
            ms = fastest.timing.p95
            raise ConfigError(
                f"nothing is in time: the fastest, {fastest.candidate}, takes {ms:.1f} ms where {limit:.1f} are "
                f"allowed, {ms / limit:.2f} times as long; allow more "
                f"(--latency {ms * 1.05:.0f}), or smaller inputs (--scales)"
            )

    def _timed(self, chosen: Sequence[Candidate]) -> Screening:
        logger.info(f"{len(chosen)} candidates of {len(self._variants)} networks are timed, or predicted")
        files = CandidateFiles(len(self.val_set.classes))
        screener = Screener(files, self.picture, self.question.limit_ms, self.question.threads)
        with counting("time", len(chosen)) as progress:
            budget = self.question.budget
            return screener.screen(chosen, timing_seconds(budget), export_seconds(budget), progress)

    def _by_device(self, device: DeviceTimings) -> Screening:
        """Return the times of another device, of the networks and sizes that are asked for."""
        asked = {net.slug for net in self._nets}
        results = tuple(
            Screened(candidate, timing) for candidate, timing in device.found.items() if candidate.net.slug in asked
        )
        if not results:
            raise ConfigError(
                f"--on {device.path} holds times of none of the networks and sizes that are asked for; leave "
                "--networks and --scales out, or make the bundle with them"
            )
        self.known.missing = dict(device.failures)
        return Screening(results, ())

    @property
    def picture(self) -> Path:
        """A picture's file that is decoded and segmented for times: the first to validate, or one made of it."""
        if isinstance(self.val_set, FileDataset):
            return self.val_set.pairs[0][0]
        path = self.study.folder / "frame.jpg"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.val_set.read(0)[0]).save(path, quality=92)
        return path

    def _plan(self) -> Plan:
        """Plan who is trained for how long."""
        plan = Plan.from_dict(self.study.once("plan", lambda: self._planned().to_dict()))
        self.known.plan = plan
        names = {net.slug: str(net) for net in self._nets}
        self.study.add_nets({slug: names[slug] for slug in plan.nets})
        for slug in plan.nets:
            self.known.starts[slug] = describe_start(self.configs.get(self._net(slug)))
        return plan

    def _planned(self) -> Plan:
        order = self._worth_training()
        configs: dict[str, Config] = {}
        failures: dict[str, str] = {}
        with counting("plan", len(order)) as progress:
            for done, net in enumerate(order, start=1):
                try:
                    configs[net.slug] = self.configs.get(net)
                except FeathersegError as error:
                    failures[net.slug] = f"cannot be trained: {error}"
                progress(done, len(order))
        classes, budget = len(self.val_set.classes), self.question.budget
        paces, untimed = net_paces(configs, classes, len(self.train_set), self.frame, budget)
        failures |= untimed
        if not paces:
            raise ConfigError(f"nothing that is in time can be trained: {next(iter(failures.values()))}")
        left = self.question.budget - self.study.clock.spent() - self._judging()
        plan = make_plan(paces, left)
        plan.left_out.update(failures)
        plan.batches.update({slug: self._batches(configs[slug]) for slug in plan.nets})
        logger.info(
            f"{len(plan.nets)} networks are trained in {len(plan.sizes)} rungs ({', '.join(map(str, plan.sizes))}), "
            f"{duration(max(left, 0))} for it"
        )
        return plan

    def _batches(self, config: Config) -> int:
        return math.ceil(len(self.train_set) * config.data.crops / config.data.batch_size)

    def _worth_training(self) -> list[Net]:
        """Return the networks that are quick enough, those first that shall be trained in any case.

        What is in time comes before what may be, a network's largest size before its smaller ones, and of the rest
        what computes more: it has more to learn with.
        """
        limit, screening = self.question.limit_ms, self.known.screening
        assert screening is not None
        surely = {result.candidate.net for result in screening.results if result.fits(limit)}
        maybe = {result.candidate.net for result in screening.results if result.near(limit)}
        found = [net for net in self._nets if net in maybe or net in surely]
        largest: dict[str, float] = {}
        for net in found:
            if net in surely:
                largest[net.variant.slug] = max(largest.get(net.variant.slug, 0.0), net.scale)
        files = CandidateFiles(len(self.val_set.classes))
        macs = {
            net: sum(layer.macs for layer in net_cost(files.model(net.variant), net.size(self.frame)).layers.values())
            for net in found
        }

        def order(net: Net) -> tuple[bool, bool, int]:
            return net not in surely, net.scale != largest.get(net.variant.slug, net.scale), -macs[net]

        return sorted(found, key=order)

    def _judging(self) -> float:
        """Return about what judging will take."""
        limit = self.question.limit_ms / 1000
        files = 2 * FINALISTS
        seconds = JUDGING * FINALISTS + files * len(self.val_set) * (limit + SCORING)
        busy = max((load() or 0.0) / available_threads(), 1.0)  # a machine that others use as well takes longer
        return min(busy * seconds, MOST_JUDGING * self.question.budget)

    def _train(self, plan: Plan) -> dict[str, Path]:
        """Go through the rungs; return the finalists' run folders, the best first."""
        rungs = Rungs(self.study, plan, self._usual, self._same_size, ray=self.ray)
        alive = list(plan.nets)
        for rung in range(plan.last):
            results = rungs.train(rung, dict.fromkeys(alive, plan.epochs[rung]))
            alive = self._go_on(plan, rung, alive, results)
        paces = rungs.paces(alive)
        seconds = self.question.budget - self._judging()

        def planned() -> dict[str, Any]:
            left = seconds - self.study.clock.spent()
            epochs = last_epochs(paces, alive, left)
            spare = {slug: paces[slug].seconds(count) for slug, count in epochs.items()}
            share = max(left, 0.0) / max(sum(spare.values()), 1e-9)
            minutes = {slug: max(share * each - paces[slug].overhead / 2, 1.0) / 60 for slug, each in spare.items()}
            return {"epochs": epochs, "minutes": minutes}

        last = self.study.once("last_rung", planned)
        for slug in alive:
            if slug not in last["epochs"]:
                self.study.drop(slug, plan.last - 1, "there was no time for it in the last rung")
        results = rungs.train(plan.last, last["epochs"], minutes=last["minutes"])
        order = survivors({slug: result["miou"] for slug, result in results.items()}, len(results), alive)
        if not order:
            reason = next((result.get("failure", "") for result in results.values()), "")
            raise ConfigError(f"no finalist could be trained: {reason}")
        return {slug: rungs.folder(slug, plan.last) for slug in order}

    def _go_on(
        self, plan: Plan, rung: int, alive: Sequence[str], results: Mapping[str, Mapping[str, Any]]
    ) -> list[str]:
        """Drop the worse half, with the reason; return those that go on."""
        miou = {slug: results[slug]["miou"] for slug in alive if slug in results}
        kept = survivors(miou, plan.sizes[rung + 1], list(plan.nets))
        if not kept:
            raise ConfigError(f"no network could be trained: {next(iter(results.values())).get('failure', '')}")
        least = min(miou[slug] or 0.0 for slug in kept)
        with self.study.lock("drop"):
            for slug in alive:
                if slug in kept:
                    continue
                failure = results.get(slug, {}).get("failure")
                why = failure or (
                    f"mIoU {100 * (miou[slug] or 0.0):.1f} % after rung {rung + 1}; the {len(kept)} that went on had "
                    f"{100 * least:.1f} % or more"
                )
                self.study.drop(slug, rung, why)
        return kept

    def _judge(self, plan: Plan, finalists: Mapping[str, Path]) -> Choice:
        """Judge the finalists as they are deployed, and choose."""
        screening = self.known.screening
        assert screening is not None
        by_key = {result.candidate.key: result.candidate for result in screening.results}
        p95 = {result.candidate.key: result.timing.p95 for result in screening.results if result.timing}
        chosen: list[tuple[int, int, Candidate, Path]] = []
        for place, (slug, run) in enumerate(finalists.items()):
            mine = [candidate for candidate in by_key.values() if candidate.net.slug == slug]
            ways = ways_to_judge(mine, p95, self.question.limit_ms)
            chosen += [(number, place, candidate, run) for number, candidate in enumerate(ways)]
        # Each finalist in one way before any in its next one: the time may be too short for all.
        chosen.sort(key=lambda each: each[:2])
        runs = {candidate: run for _, _, candidate, run in chosen}
        measured = None
        if self.device is not None:
            measured = {candidate.key: timing for candidate, timing in self.device.found.items()}

        def made() -> dict[str, Any]:
            finals = Finals(
                self.study.folder / "finals",
                self.val_set,
                self.train_set,
                self.picture,
                self.question.threads,
                measured,
            )
            logger.info(f"{len(runs)} files of {len(finalists)} finalists are judged as they are deployed")
            with counting("judge", len(runs)) as progress:
                left = self.question.budget - self.study.clock.spent()
                judged, matrices = finals.judge(runs, max(left, 0.0), progress)
            choice = choose(judged, matrices, self.question.limit_ms, self.question.seed)
            return {
                "judged": [each.to_dict() for each in judged],
                "pick": choice.pick.candidate.key if choice.pick else None,
                "runner_up": choice.runner_up.candidate.key if choice.runner_up else None,
                "ties": [each.candidate.key for each in choice.ties],
                "reasons": list(choice.reasons),
            }

        data = self.study.once("finals", made)
        judged = {row["candidate"]: Judged.from_dict(row, by_key) for row in data["judged"]}
        choice = Choice(
            judged.get(data["pick"]),
            judged.get(data["runner_up"]),
            tuple(judged[key] for key in data["ties"]),
            tuple(data["reasons"]),
        )
        self.known.judged, self.known.choice = list(judged.values()), choice
        for each in judged.values():
            if not np.isnan(each.miou):
                with self.study.lock("finish"):
                    self.study.finish(each.candidate.net.slug, each.miou)
        return choice

    def _recipe(self, choice: Choice) -> Config | None:
        if choice.pick is None:
            return None
        candidate = choice.pick.candidate
        config = final_recipe(self.configs.get(candidate.net), candidate, Path("runs"), self.question.threads)
        write_recipe(config, self.study.folder)
        return config

    def _net(self, slug: str) -> Net:
        return next(net for net in self._nets if net.slug == slug)

    def _usual(self, slug: str) -> Config:
        return self.configs.get(self._net(slug))

    def _same_size(self, one: str, other: str) -> bool:
        return self._net(one).scale == self._net(other).scale


def _first_reason(screening: Screening) -> str:
    return next((result.reason for result in screening.results if result.reason), "there is none")
