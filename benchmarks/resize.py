"""Where to resize frames for the network: by OpenCV before the engine, as featherseg does, or inside its graph.

    python benchmarks/resize.py [MODEL] [--image PHOTO] [--frames 720x1280 1080x1920] [--size 512x1024] [--threads 2]

Each way turns the same frame, uint8 in memory, into logits. In the graph bytes become floats, are resized bilinearly
(with antialiasing, as a fair match of OpenCV's area interpolation; and without) and go on into the network; graphs are
fixed to both sizes. All take turns in one run; figures are medians. *Same classes* is the share of logits whose winner
is that of area interpolation in OpenCV.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from featherseg.cli.app import parse_size
from featherseg.cli.tables import print_table, print_text
from featherseg.core.images import read_image
from featherseg.core.machine import machine_facts
from featherseg.core.types import ImageArray
from featherseg.evaluation.opening import STREET
from featherseg.runtime.area import shrink
from featherseg.runtime.choose import picture
from featherseg.runtime.postprocess import kernels
from featherseg.runtime.sessions.base import open_session
from featherseg.runtime.sessions.openvino import openvino_core
from featherseg.runtime.timing import take_turns

Logits = NDArray[np.float32]
Size = tuple[int, int]
OPENCV = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR}
IN_GRAPH = {"bilinear, antialiased": 1, "bilinear": 0}


def with_resize(source: Path, path: Path, frame: Size, size: Size, antialias: int) -> Path:
    """Write the network with a resize before it, from `frame` to `size`."""
    proto = onnx.load(str(source))
    graph = proto.graph
    for node in graph.node:
        node.input[:] = ["resized" if name == "image" else name for name in node.input]
    sizes = numpy_helper.from_array(np.array([1, 3, *size], np.int64), "resize_sizes")
    graph.initializer.append(sizes)
    way = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "antialias": antialias}
    before = [
        helper.make_node("Transpose", ["image"], ["resize_chw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["resize_chw"], ["resize_float"], to=TensorProto.FLOAT),
        helper.make_node("Resize", ["resize_float", "", "", "resize_sizes"], ["resize_small"], **way),
        helper.make_node("Transpose", ["resize_small"], ["resized"], perm=[0, 2, 3, 1]),
    ]
    after = list(graph.node)
    del graph.node[:], graph.input[:], graph.value_info[:]
    graph.node.extend(before + after)
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *frame, 3]))
    onnx.save(proto, str(path))
    return path


def before_engine(model: Path, backend: str, threads: int, size: Size, method: int) -> Callable[[ImageArray], Logits]:
    """As featherseg has it."""
    session = open_session(model, backend, threads=threads).planned(size)
    return lambda frame: session.run(cv2.resize(frame, size[::-1], interpolation=method)[None])


def in_graph(path: Path, backend: str, threads: int) -> Callable[[ImageArray], Logits]:
    """The engine alone."""
    if backend == "openvino":
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": str(threads),
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = openvino_core(openvino).compile_model(str(path), "CPU", settings).create_infer_request()
        return lambda frame: request.infer({"image": frame[None]}, share_inputs=True)["logits"].copy()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda frame: session.run(None, {"image": frame[None]})[0]


def timed(run: Callable[[ImageArray], Logits], frame: ImageArray) -> Callable[[int, int], list[float]]:
    def task(runs: int, before: int) -> list[float]:
        times = []
        for _ in range(before + runs):
            begin = time.perf_counter()
            run(frame)
            times.append((time.perf_counter() - begin) * 1000)
        return times[before:]

    return task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=STREET, help="exported .onnx file")
    parser.add_argument("--image", type=Path, help="photo; a made-up one otherwise")
    parser.add_argument("--frames", nargs="+", default=["720x1280", "1080x1920"], help="HxW of the frames")
    parser.add_argument("--size", default="512x1024", help="HxW for the network")
    parser.add_argument("--engines", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=12)
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    size = parse_size(args.size)
    facts = machine_facts(args.threads)
    for text in args.frames:
        height, width = parse_size(text)
        photo = read_image(args.image) if args.image else picture((height, width))
        frame = np.ascontiguousarray(cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA))
        ways: dict[tuple[str, str], Callable[[ImageArray], Logits]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for engine in args.engines:
                for name, method in OPENCV.items():
                    ways[engine, f"OpenCV, {name}"] = before_engine(args.model, engine, args.threads, size, method)
                for name, antialias in IN_GRAPH.items():
                    path = with_resize(args.model, Path(folder) / "net.onnx", (height, width), size, antialias)
                    ways[engine, f"in the graph, {name}"] = in_graph(path, engine, args.threads)
            times = take_turns({str(i): timed(run, frame) for i, run in enumerate(ways.values())}, runs=args.runs)
            winners = [run(frame).argmax(1) for run in ways.values()]
        rows = [
            [*way, f"{np.median(times[str(i)]):.1f}", f"{100 * np.mean(winners[i] == winners[0]):.2f} %"]
            for i, way in enumerate(ways)
        ]
        print_table(f"{text} to {args.size}", ["engine", "resized by", "ms to the logits", "same classes"], rows)
        kernels(None)
        alone = take_turns(
            {
                "OpenCV's": timed(lambda frame: cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA), frame),
                "featherseg's, one thread,": timed(lambda frame: shrink(frame, size), frame),
            },
            runs=max(args.runs, 60),
        )
        for name, each in alone.items():
            print_text(f"{name} area interpolation alone: {np.median(each):.2f} ms (least {min(each):.2f})")
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    print_text(f"{facts['processor']}, threads: {args.threads}, load before: {facts['load']}; {versions}")


if __name__ == "__main__":
    main()
