"""All that only a GPU can prove, in one call of eight minutes: one JSON file and a table.

    python benchmarks/gpu --out gpu.json [--parts training,loss] [--minutes 8]
    python benchmarks/gpu --out dry.json --dry-run

Parts run in a fixed order, each in a process of its own that is ended when its share of the time is up; what fails or
takes too long is recorded with its reason, and the next one begins. The file is written anew after each part.
``--dry-run`` runs all of it on the CPU in the smallest sizes, to try the program where no GPU is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [path for path in (str(HERE), str(HERE.parent)) if path not in sys.path]

from jobs import Job, run_jobs  # noqa: E402
from table import as_text  # noqa: E402
from whole import Part, run_parts  # noqa: E402

PARTS = {
    "training": Part("train_parts:training", 60),
    "loss": Part("train_parts:loss", 30),
    "resume": Part("train_parts:resume", 60),
    "session": Part("runtime_parts:session", 40),
    "fps": Part("runtime_parts:fps", 90),
    "engines": Part("engine_parts:engines", 180),
}
"""In their order, with about the seconds of eight minutes that each may take."""
MACHINE_SECONDS = 90.0
DRY_MINUTES = 120.0
"""Of a dry run where nothing is said: an outer limit, for such a machine may be slow."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="JSON file to write")
    parser.add_argument("--parts", default=",".join(PARTS), help="names with commas between them; all by default")
    parser.add_argument("--minutes", type=float, help="that the whole may take; 8 by default")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, in the smallest sizes")
    arguments = parser.parse_args()
    begin = time.monotonic()
    wanted = arguments.parts.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"unknown part {unknown[0]!r}; known: {', '.join(PARTS)}")
    minutes = arguments.minutes or (DRY_MINUTES if arguments.dry_run else 8.0)
    device = "cpu" if arguments.dry_run else "cuda"
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        job = Job("machine", "runtime_parts:machine", MACHINE_SECONDS)
        found = run_jobs([job], Path(folder), device=device, small=arguments.dry_run, seconds=MACHINE_SECONDS)
    machine = found["machine"]["result"] or found["machine"]
    if device == "cuda" and machine.get("gpu") is None:
        sys.exit(f"torch finds no CUDA device here ({found['machine'].get('reason', 'none')}); try --dry-run")
    report = run_parts(
        {name: part for name, part in PARTS.items() if name in wanted},
        arguments.out,
        device=device,
        small=arguments.dry_run,
        seconds=60 * minutes - (time.monotonic() - begin),
        machine=machine,
        done=lambda name, outcome: print(f"{name}: {outcome['state']} {outcome.get('reason', '')}", flush=True),
    )
    print(f"\n{as_text(report)}\n\n{arguments.out}")


if __name__ == "__main__":
    main()
