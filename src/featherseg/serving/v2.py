"""The Open Inference Protocol, version 2, over HTTP: what clients of Triton and KServe speak.

A model takes ``image``, RGB uint8 (B, H, W, 3) as exported files do, and gives ``mask``, class ids uint8 (B, H, W), and
``logits`` at the network's stride, fp32 (B, C, h, w), of which a client asks for what it needs. In Triton, whose
repository ``featherseg ship --to triton`` writes, the same network is asked for ``logits`` in the same words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from ..core.errors import FeathersegError
from ..core.machine import versions
from ..runtime.postprocess import upsample_argmax
from ..runtime.segmenter import Segmenter
from .gate import Job
from .limits import Refusal
from .models import ServedModel
from .service import JOB, service_of
from .tensors import HEADER, VERSION, Encoded, chosen_outputs, encode, images_of, parse
from .v1 import json_response, server_timing


async def live(request: Request) -> Response:
    """Say that the server runs."""
    return json_response({"live": True})


async def ready(request: Request) -> Response:
    """Say whether requests are welcome; they are not any more once the server is ending."""
    is_ready = not service_of(request).draining
    return json_response({"ready": is_ready}, 200 if is_ready else 503)


async def server(request: Request) -> Response:
    """Say what the server is."""
    version = versions(("featherseg",))["featherseg"]
    return json_response({"name": "featherseg", "version": version, "extensions": ["binary_tensor_data"]})


async def model(request: Request) -> Response:
    """Say what a model takes and gives."""
    served = _model(request)
    classes = len(served.classes)
    shapes = {"mask": ("UINT8", [-1, -1, -1]), "logits": ("FP32", [-1, classes, -1, -1])}
    image = {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}
    return json_response(
        {
            "name": served.name,
            "versions": [VERSION],
            "platform": f"featherseg_{served.shared.session.name}",
            "inputs": [image],
            "outputs": [
                {"name": name, "datatype": shapes[name][0], "shape": shapes[name][1]} for name in _offered(served)
            ],
        }
    )


async def model_ready(request: Request) -> Response:
    """Say whether a model takes requests."""
    served = _model(request)
    is_ready = not service_of(request).draining
    return json_response({"name": served.name, "ready": is_ready}, 200 if is_ready else 503)


async def infer(request: Request) -> Response:
    """Segment the images of a tensor."""
    service = service_of(request)
    served = _model(request)
    header = request.headers.get(HEADER)

    def work(body: bytearray, job: Job) -> Encoded:
        parsed = parse(body, header)
        outputs = chosen_outputs(parsed.request, _offered(served))
        images = images_of(parsed, service.limits.pixels)
        job.lap("decode")
        arrays = _results(served, images, {output.name for output in outputs}, job)
        job.lap("segment")
        encoded = encode(served.name, parsed.request, outputs, arrays)
        job.lap("encode")
        return encoded

    encoded = await service.compute(request, work)
    headers = {"Server-Timing": server_timing(request.scope[JOB])}
    if not encoded.blobs:
        return Response(encoded.head, headers=headers, media_type="application/json")
    headers[HEADER] = str(len(encoded.head))
    return Response(encoded.content, headers=headers, media_type="application/octet-stream")


def _model(request: Request) -> ServedModel:
    """Return the model that an address names."""
    served = service_of(request).models.get(request.path_params["name"])
    version = request.path_params.get("version", VERSION)
    if version != VERSION:
        raise Refusal(404, f"model {served.name!r} has no version {version[:40]!r}; there is {VERSION}")
    return served


def _offered(served: ServedModel) -> list[str]:
    return ["mask", "logits"] if served.has_logits else ["mask"]


def _results(served: ServedModel, images: NDArray[np.uint8], names: set[str], job: Job) -> dict[str, NDArray[Any]]:
    """Return the wanted outputs of images, one after the other: together they are no quicker on a processor."""
    segmenter = served.segmenter(job.alone)
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for image in images:
        try:
            with served.using(segmenter):
                for name, array in _one(segmenter, image, names).items():
                    found[name].append(array)
        except FeathersegError as error:
            raise Refusal(422, str(error)) from error
        job.lap("segment")
    return {name: np.stack(arrays) for name, arrays in found.items()}


def _one(segmenter: Segmenter, image: NDArray[np.uint8], names: set[str]) -> dict[str, NDArray[Any]]:
    """Return the wanted outputs of an image; the network runs once."""
    if "logits" not in names:
        return {"mask": segmenter.segment(image)}
    logits = segmenter.logits(image)
    found: dict[str, NDArray[Any]] = {"logits": logits}
    if "mask" in names:
        found["mask"] = upsample_argmax(logits, (image.shape[0], image.shape[1]))
    return found
