"""What every network costs: parameters, multiply-accumulates, and the time that it takes on this machine, in turns.

    python benchmarks/networks.py [--networks fastsegnet,fastsegnet:stride=2,cgnet,…] [--size 512x1024] [--threads 2]

Networks are exported with random weights, which cost as much as trained ones, and run by OpenVINO (``--engine onnx``:
by ONNX Runtime, in fp32). The time is the median of the network alone; all of them take turns, so that what the machine
does meanwhile falls on all alike, and the ratio to FastSegNet is worth more than any time. Parameters and
multiply-accumulates are of the network as it is deployed, without the auxiliary heads of training.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from featherseg.core.machine import machine_facts
from featherseg.core.types import ClassSet
from featherseg.exporting.onnx import export_onnx
from featherseg.models.factory import create_model, list_models
from featherseg.models.facts import count_gmacs, count_parameters
from featherseg.models.session import describe
from featherseg.runtime.choose import picture
from featherseg.runtime.engines import Engine
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.timing import time_in_turns

REFERENCE = "fastsegnet"


def exported(network: str, classes: int, folder: Path) -> tuple[Path, float, float]:
    """Return a file of a network with random weights, its million parameters and GMACs of a 512x1024 image.

    Args:
        network: its name, with options of whole numbers behind it: ``fastsegnet:stride=2``.
        classes: that it tells apart.
        folder: to write to.
    """
    name, *options = network.split(":")
    model = create_model(name, classes, **{key: int(value) for key, value in (each.split("=") for each in options)})
    model.eval()
    artifact = describe(model, ClassSet(tuple(f"class {i}" for i in range(classes))))
    path = export_onnx(model, folder / f"{network.replace(':', '_')}.onnx", artifact)
    return path, count_parameters(model)[0] / 1e6, count_gmacs(model, (512, 1024))


def main() -> None:
    """Export, time in turns, and print a table that is ordered by time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="", help="with commas between; all where left out")
    parser.add_argument("--size", default="512x1024", help="HEIGHTxWIDTH")
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--engine", choices=("openvino", "onnx"), default="openvino")
    parser.add_argument("--precision", default="bf16", help="of OpenVINO")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    frame = picture((height, width))
    engine = Engine(arguments.engine, arguments.precision if arguments.engine == "openvino" else None)
    ready, facts = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for network in arguments.networks.split(",") if arguments.networks else list_models():
            begin = time.monotonic()
            path, params, gmacs = exported(network, arguments.classes, Path(folder))
            ready[network] = Segmenter(engine.open(path, arguments.threads)).planned((height, width))
            facts[network] = params, gmacs
            print(f"{network}: exported and opened in {time.monotonic() - begin:.0f} s", flush=True)
        times = time_in_turns(ready, frame, runs=arguments.runs, warmup=3)
    medians = {name: statistics.median(latency.stages["net"]) for name, latency in times.items()}
    print(f"\n{engine}, {arguments.size}, {arguments.classes} classes; {machine_facts(arguments.threads)}\n")
    print("| network | M parameters | GMACs at 512x1024 | ms | times FastSegNet's |\n|---|---|---|---|---|")
    for name in sorted(medians, key=lambda name: medians[name]):
        ratio = f"{medians[name] / medians[REFERENCE]:.2f}" if REFERENCE in medians else "–"
        print(f"| `{name}` | {facts[name][0]:.2f} | {facts[name][1]:.2f} | {medians[name]:.1f} | {ratio} |")


if __name__ == "__main__":
    main()
