"""What int8 adds to `featherseg ship`, part by part, and how many times as long it took before.

    python benchmarks/int8_search.py runs/camvid_fastsegnet --data data/CamVid [--max-drop 0.002] [--before ../older]

Each measurement is a process of its own that ships the run once without int8 and once with it, one thread each, and
tells the processor time of either: it does not depend on what else the machine does. ``--before`` names a checkout of
an earlier version, which takes turns with this one. Parts do not hold one another: what is left of a part is without
the parts inside it. Both versions must leave the same layers in fp32, or the program says which differ and fails.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from parts import Clock

HERE = Path(__file__).resolve()
PARTS = {
    "network's masks": ["exporting.verify:_torch_mask", "exporting.verify:_torch_logits"],
    "files' masks": ["runtime.segmenter:Segmenter._segment"],
    "boundary F1": ["evaluation.metrics:BoundaryF1.update"],
    "confidence": ["compress.quantize:fitted", "exporting.verify:_compare_confidence", "evaluation.calibration:fitted"],
    "decoding": ["data.datasets:FileDataset.read"],
    "calibration": ["compress.quantize:calibrate", "compress.search:calibrate"],
    "ranking": ["compress.quantize:layer_sensitivity", "compress.search:layer_sensitivity"],
    "writing int8": ["compress.quantize:quantize_onnx", "compress.search:quantize_onnx"],
    "exporting": ["exporting.verify:export_onnx"],
    "timing": ["compress.quantize:time_in_turns", "shipping.files:time_in_turns"],
}
"""What is timed, where this version or the earlier one has it."""


def watch_parts(clock: Clock) -> None:
    for part, places in PARTS.items():
        for place in places:
            module, _, path = place.partition(":")
            *owners, name = path.split(".")
            try:
                owner: Any = importlib.import_module(f"featherseg.{module}")
            except ModuleNotFoundError:
                continue
            for inner in owners:
                owner = getattr(owner, inner)
            if hasattr(owner, name):
                setattr(owner, name, clock.watch(part, getattr(owner, name)))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Ship a run without and with int8, and return what each took; this is done in a process of its own."""
    import torch

    from featherseg.core.config import ShipConfig
    from featherseg.models.checkpoint import load_checkpoint
    from featherseg.runtime.artifact import read_artifact
    from featherseg.shipping.pipeline import ship

    torch.set_num_threads(1)
    checkpoint = load_checkpoint(options.run)
    if options.as_they_are:
        checkpoint.model.input_spec = replace(checkpoint.model.input_spec, long_side=None)
    clock = Clock()
    watch_parts(clock)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, int8 in (("fp32", False), ("int8", True)):
            config = ShipConfig(int8=int8, max_drop=options.max_drop, threads=1)
            clock.begin()
            report = ship(checkpoint, Path(folder, name), config, data=options.data, kind=options.kind)
            clock.lap()
            found[name] = dict(clock.seconds)
        (small,) = [file for file in report.files if file.precision == "int8"]
        facts = read_artifact(Path(folder, "int8", small.name)).training["quantization"]
    keys = ("fp32_layers", "layers", "rounds", "miou_fp32", "miou")
    return found | {key: facts[key] for key in keys} | {"agreement": small.agreement}


def in_process_of(source: Path, arguments: list[str]) -> dict[str, Any]:
    """Measure with the featherseg of a checkout."""
    known = os.environ | {"PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE), *arguments, "--measure"]
    done = subprocess.run(command, env=known, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def added(row: dict[str, Any]) -> dict[str, float]:
    """Return what int8 adds to each part."""
    parts = [*PARTS, "all else"]
    return {part: row["int8"].get(part, 0.0) - row["fp32"].get(part, 0.0) for part in parts}


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {part: statistics.median(row[part] for row in rows) for part in rows[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, help="folder of the data, where it is not the run's own")
    parser.add_argument("--kind", help="dataset kind, where it is another than the run's")
    parser.add_argument("--max-drop", type=float, default=0.01, help="mIoU that may be lost; little keeps layers fp32")
    parser.add_argument("--as-they-are", action="store_true", help="images at their own size, whatever the run's is")
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options)))
        return 0
    from featherseg.core.machine import cpu_name

    sources = {"now": HERE.parents[1]} | ({"before": options.before.resolve()} if options.before else {})
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in sources}
    for _ in range(options.turns):
        for name, source in sources.items():
            rows[name].append(in_process_of(source, sys.argv[1:]))
    print(f"{date.today()}, {cpu_name()}, 1 thread, {options.run.name}, at most {100 * options.max_drop:g} points lost")
    last = rows["now"][-1]
    print(f"{len(last['fp32_layers'])} of {last['layers']} layers stayed fp32: {', '.join(last['fp32_layers']) or '-'}")
    print(f"mIoU {100 * last['miou']:.2f} (fp32 {100 * last['miou_fp32']:.2f}), tries {last['rounds']}")
    tables = {name: medians([added(row) for row in each]) for name, each in rows.items()}
    wholes = {
        name: medians([{k: sum(row[k].values()) for k in ("fp32", "int8")} for row in rows[name]]) for name in rows
    }
    print(f"\n{'s of processor time that int8 adds':36} {''.join(f'{name:>9}' for name in tables)}")
    for part in [*PARTS, "all else"]:
        print(f"{part:36} {''.join(f'{table[part]:9.1f}' for table in tables.values())}")
    totals = {name: sum(table.values()) for name, table in tables.items()}
    print(f"{'sum':36} {''.join(f'{total:9.1f}' for total in totals.values())}")
    for kind, words in (("fp32", "ship without int8"), ("int8", "ship with it")):
        print(f"{words:36} {''.join(f'{wholes[name][kind]:9.1f}' for name in tables)}")
    if options.out:
        options.out.write_text(json.dumps({name: rows[name] for name in rows}, indent=2), encoding="utf-8")
    if "before" not in rows:
        return 0
    print(f"\nint8 took {totals['before'] / totals['now']:.2f} times as long before, all of ship", end=" ")
    print(f"{wholes['before']['int8'] / wholes['now']['int8']:.2f} times")
    kept = {name: sorted(each[-1]["fp32_layers"]) for name, each in rows.items()}
    if kept["now"] != kept["before"]:
        print(f"but other layers stayed fp32 then: {', '.join(kept['before']) or '-'}")
        return 1
    print("the same layers stayed fp32")
    return 0


if __name__ == "__main__":
    sys.exit(main())
