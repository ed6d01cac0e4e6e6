"""From an image file to a class mask, in the ways that people deploy a network: what peers.py compares.

Each pipeline is a function from a path to a mask, uint8 (H, W). All decode with the same function. Engines get their
best: uint8 images in, normalisation and arg max inside the graph, one fixed size, latency hints.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.core.images import read_image
from featherseg.core.types import IMAGENET_MEAN, IMAGENET_STD
from featherseg.runtime.postprocess import kernels
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import open_session
from featherseg.runtime.sessions.openvino import HINTS, openvino_core

Mask = NDArray[np.uint8]
Pipeline = Callable[[Path], Mask]
Size = tuple[int, int]

MEAN, STD = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)


def featherseg_pipeline(path: Path, size: Size, backend: str, threads: int, **options: Any) -> Pipeline:
    """As featherseg's users have it: logits at the network's stride, exact upsampling and arg max in its kernel."""
    segmenter = Segmenter(open_session(path, backend, threads=threads, **options), size=size)
    kernels(None)  # compiled before anything is timed
    return lambda image: segmenter.segment(read_image(image))


def eager(model: nn.Module) -> Pipeline:
    """PyTorch as in every tutorial: PIL, float tensor, normalise, network, interpolate, arg max."""
    model = model.eval()

    def segment(path: Path) -> Mask:
        image = Image.open(path).convert("RGB")
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        with torch.inference_mode():
            logits = _logits(model, ((tensor - MEAN) / STD)[None])
            if logits.shape[2:] != tensor.shape[1:]:
                logits = F.interpolate(logits, size=tensor.shape[1:], mode="bilinear", align_corners=False)
            return logits.argmax(1)[0].to(torch.uint8).numpy()

    return segment


def in_graph_torch(model: nn.Module, compiled: bool) -> Pipeline:
    """PyTorch at its best: channels last, bytes in, all in one function, compiled if asked for."""
    net = InGraph(model.eval()).to(memory_format=torch.channels_last)
    run = torch.compile(net) if compiled else net

    def segment(path: Path) -> Mask:
        with torch.inference_mode():
            return run(torch.from_numpy(read_image(path))[None])[0].numpy()

    return segment


class InGraph(nn.Module):
    """Bytes (1, H, W, 3) in, mask (1, H, W) out, as engines get a network of another library."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", 255 * MEAN)
        self.register_buffer("scale", 1 / (255 * STD))

    def forward(self, image: Tensor) -> Tensor:
        """Return the mask."""
        logits = _logits(self.model, (image.permute(0, 3, 1, 2).float() - self.mean) * self.scale)
        if logits.shape[2:] != image.shape[1:3]:
            logits = F.interpolate(logits, size=image.shape[1:3], mode="bilinear", align_corners=False)
        return logits.argmax(1).to(torch.uint8)


def _logits(model: nn.Module, image: Tensor) -> Tensor:
    found = model(image)
    return found["out"] if isinstance(found, dict) else found


def export_peer(model: nn.Module, path: Path, size: Size) -> Path:
    """Write another library's network as ONNX of one size, mask inside."""
    example = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8)
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            InGraph(model.eval()),
            (example,),
            str(path),
            dynamo=True,
            input_names=["image"],
            output_names=["mask"],
            external_data=False,
            verbose=False,
        )
    return path


def with_mask(source: Path, path: Path) -> Path:
    """Write a file that gives logits again with bilinear upsampling and arg max inside, for one image at a time."""
    proto = onnx.load(str(source))
    graph = proto.graph
    make = onnx.helper.make_node
    arrays = {
        "peer_start": np.array([1], np.int64),
        "peer_end": np.array([3], np.int64),
        "peer_lead": np.array([1, len_classes(proto)], np.int64),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in arrays.items())
    resize = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    graph.node.extend(
        [
            make("Shape", ["image"], ["peer_shape"]),
            make("Slice", ["peer_shape", "peer_start", "peer_end"], ["peer_hw"]),
            make("Concat", ["peer_lead", "peer_hw"], ["peer_sizes"], axis=0),
            make("Resize", ["logits", "", "", "peer_sizes"], ["peer_full"], **resize),
            make("ArgMax", ["peer_full"], ["peer_ids"], axis=1, keepdims=0),
            make("Cast", ["peer_ids"], ["mask"], to=onnx.TensorProto.UINT8),
        ]
    )
    del graph.output[:]
    graph.output.append(
        onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.UINT8, ["batch", "height", "width"])
    )
    onnx.save(proto, str(path))
    return path


def len_classes(proto: Any) -> int:
    """Return the channels of a file's logits."""
    return int(proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value)


def ort_pipeline(path: Path, size: Size, threads: int) -> Pipeline:
    """ONNX Runtime with the mask in the graph, its size fixed."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    for axis, value in zip(("batch", "height", "width"), (1, *size), strict=True):
        options.add_free_dimension_override_by_name(axis, value)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": read_image(image)[None]})[0][0]


def openvino_pipeline(path: Path, size: Size, threads: int, precision: str) -> Pipeline:
    """OpenVINO with the mask in the graph, its size fixed."""
    import openvino

    core = openvino_core(openvino)
    model = core.read_model(str(path))
    model.reshape({"image": [1, *size, 3]})
    settings = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": str(threads),
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def segment(path: Path) -> Mask:
        return request.infer({"image": read_image(path)[None]}, share_inputs=True)[0][0].copy()

    return segment
