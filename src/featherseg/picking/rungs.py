"""The rungs of a study: each step is done by the process that comes to it first; nobody goes on before all are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.config import Config
from ..core.progress import counting, logger
from .pace import NetPace
from .plan import Plan, survivors
from .steps import Step, step_folder, train_step
from .study import POLL, Study

LONG = 400
"""Steps of a run that are enough to learn from another network. In fewer that is in the way: of 48 generated streets
JetNet learnt in 48 steps to 36.2 % mIoU by itself, and to 26.4 % with a teacher of 31.2 %."""
LEAD = 0.03
"""mIoU, 0–1, by which a teacher has to be better."""


class Rungs:
    """Trains what is planned.

    Args:
        study: whose folder holds it.
        plan: who is trained.
        usual: a network's usual training, by what its files are called.
        same_size: whether two networks see pictures at the same size, so that one may teach the other.
        ray: whether steps run on a Ray cluster.
    """

    def __init__(
        self,
        study: Study,
        plan: Plan,
        usual: Callable[[str], Config],
        same_size: Callable[[str, str], bool],
        *,
        ray: bool = False,
    ) -> None:
        self.study, self.plan, self.usual, self.same_size, self.ray = study, plan, usual, same_size, ray

    def train(
        self, rung: int, epochs: Mapping[str, int], minutes: Mapping[str, float] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Train networks through a rung, and return what each ended with.

        Args:
            rung: which.
            epochs: of each network.
            minutes: that each may take; as long as it takes where None.
        """
        steps = {slug: self._step(slug, rung, count, (minutes or {}).get(slug, 0.0)) for slug, count in epochs.items()}
        with counting(f"rung {rung + 1}", len(steps)) as progress:
            while True:
                left = [slug for slug in steps if slug not in self.study.results(rung)]
                progress(len(steps) - len(left), len(steps))
                if not left:
                    break
                if self.ray:
                    from .ray_rungs import train_on_ray

                    train_on_ray([(self.usual(slug), steps[slug], self.study.folder) for slug in left], self._note)
                elif not self._one_of(steps[slug] for slug in left):
                    with self.study.clock.waiting():
                        time.sleep(POLL)
        return {slug: result for slug, result in self.study.results(rung).items() if slug in steps}

    def folder(self, slug: str, rung: int) -> Path:
        """Return the run folder of a network's rung."""
        return step_folder(self.study.folder, slug, rung)

    def paces(self, slugs: Sequence[str]) -> dict[str, NetPace]:
        """Return what networks' trainings take, by what they took, or by the plan where nobody knows."""
        paces = {slug: self.plan.paces[slug] for slug in slugs}
        for rung in range(self.plan.last):
            for slug, result in self.study.results(rung).items():
                if slug in paces:
                    paces[slug] = NetPace.of_run(result, paces[slug])
        return paces

    def _step(self, slug: str, rung: int, epochs: int, minutes: float) -> Step:
        name = self.study.trials()[slug].user_attrs["name"]
        if not rung:
            return Step(slug, name, rung, epochs, minutes)
        start = self.folder(slug, rung - 1)
        teacher = self._teacher(slug, rung - 1) if epochs * self.plan.batches.get(slug, 0) >= LONG else ""
        return Step(slug, name, rung, epochs, minutes, teacher, str(start))

    def _teacher(self, slug: str, rung: int) -> str:
        """Return the run folder of the best network of a rung, if it knows clearly more of pictures of that size."""
        miou = {name: result["miou"] for name, result in self.study.results(rung).items()}
        best = survivors(miou, 1, list(self.plan.nets))
        if not best or miou.get(slug) is None or not self.same_size(best[0], slug):
            return ""
        return str(self.folder(best[0], rung)) if miou[best[0]] - miou[slug] >= LEAD else ""

    def _one_of(self, steps: Iterable[Step]) -> bool:
        """Train the first of several steps that no other process is at; return whether there was one."""
        return any(self._try(step) for step in steps)

    def _try(self, step: Step) -> bool:
        """Train a step, unless another process does so at the moment; return whether it was done here."""
        with self.study.lock(f"step-{step.slug}-{step.rung}", wait=False) as mine:
            if not mine:
                return False
            if step.slug not in self.study.results(step.rung):  # it may have ended meanwhile
                begin = time.monotonic()
                result = train_step(self.usual(step.slug), step, self.study.folder)
                self._note(step, result | {"sitting": round(time.monotonic() - begin, 2)})
            return True

    def _note(self, step: Step, result: Mapping[str, Any]) -> None:
        known = float(result.get("train_seconds") or 0) + 2 * float(result.get("look_seconds") or 0)
        # A run that was gone on with was here for a part of its time alone.
        seconds = max(known, float(result.get("sitting") or 0))
        self.study.record(step.slug, step.rung, dict(result) | {"seconds": round(seconds, 2)})
        if result.get("miou") is not None:
            logger.info(f"rung {step.rung + 1}: {step.name}, mIoU {100 * float(result['miou']):.1f}")
        else:
            logger.warning(f"warning: {step.name} is out: {result.get('failure')}")
