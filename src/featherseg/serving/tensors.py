"""Requests and answers of the Open Inference Protocol: tensors in JSON, or as bytes after it.

Names, types and the header are those of the protocol's version 2 and its binary tensor data extension
(https://github.com/kserve/open-inference-protocol, https://github.com/triton-inference-server/server/blob/main/docs/
protocol/extension_binary_data.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..core.errors import did_you_mean
from ..core.text_files import shortened
from .limits import Refusal

HEADER = "inference-header-content-length"
"""HTTP header: how many bytes of the body are JSON; tensors follow."""
JSON_VALUES = 4_000_000
"""Values of all tensors of an answer that is JSON; each takes several bytes, and a hundred in most clients."""
TYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype(np.uint8), "FP32": np.dtype("<f4")}
VERSION = "1"
"""Of every model: a file is one version."""
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class Tensor(msgspec.Struct):
    """A tensor of a request."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = msgspec.Raw(b"")


class RequestedOutput(msgspec.Struct):
    """A tensor that a request wants."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[RequestedOutput] | None = None

    def is_binary(self, output: RequestedOutput) -> bool:
        """Return whether an output is wanted as bytes."""
        return bool(output.parameters.get("binary_data", self.parameters.get("binary_data_output", False)))


@dataclass(frozen=True)
class Parsed:
    """A request and the bytes that followed its JSON."""

    request: InferRequest
    blobs: memoryview


def parse(body: bytearray, header: str | None) -> Parsed:
    """Read a body.

    Args:
        body: JSON, and bytes of tensors.
        header: how many of its bytes are JSON; all where None.

    Raises:
        Refusal: it is no such request.
    """
    length = len(body)
    if header is not None:
        if not (header.isascii() and header.isdigit() and int(header[:20]) <= len(body)):
            raise Refusal(400, f"{HEADER} is {header[:40]!r}; give how many of the body's {length} bytes are JSON")
        length = int(header)
    view = memoryview(body)
    try:
        request = msgspec.json.decode(view[:length], type=InferRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(
            400, f"the body is no inference request ({shortened(str(error), 200)}); see /openapi.json"
        ) from None
    return Parsed(request, view[length:])


def images_of(parsed: Parsed, pixels: int) -> NDArray[np.uint8]:
    """Return the images of a request, uint8 (B, H, W, 3).

    Args:
        parsed: the request.
        pixels: that they may have together.

    Raises:
        Refusal: there is another input, or it is of another type or shape, too large, or not whole.
    """
    inputs = parsed.request.inputs
    if [tensor.name for tensor in inputs] != ["image"]:
        names = ", ".join(repr(tensor.name[:40]) for tensor in inputs[:5]) or "none"
        raise Refusal(400, f"inputs are {names}; give one, 'image', UINT8 [batch, height, width, 3]")
    (tensor,) = inputs
    if tensor.datatype != "UINT8":
        raise Refusal(400, f"input 'image' has datatype {tensor.datatype[:40]!r}; give UINT8, RGB of 0 to 255")
    shape = tensor.shape
    if len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
        raise Refusal(400, f"input 'image' has shape {str(shape)[:80]}; give [batch, height, width, 3]")
    if shape[0] * shape[1] * shape[2] > pixels:
        raise Refusal(
            413, f"input 'image' has shape {shape}, more than {pixels:,} pixels; give fewer or smaller pictures"
        )
    count = shape[0] * shape[1] * shape[2] * 3
    if "binary_data_size" in tensor.parameters:
        return _from_bytes(parsed.blobs, tensor.parameters["binary_data_size"], count).reshape(shape)
    if len(parsed.blobs):
        raise Refusal(400, f"{len(parsed.blobs)} bytes follow the JSON, but 'image' has no binary_data_size")
    return _from_json(bytes(tensor.data), count).reshape(shape)


def _from_bytes(blobs: memoryview, size: Any, count: int) -> NDArray[np.uint8]:
    if size != count or len(blobs) != count:
        raise Refusal(
            400,
            f"input 'image' has {count} values, its binary_data_size is {shortened(repr(size))}, and {len(blobs)} "
            "bytes follow the JSON; all three have to be the same",
        )
    return np.frombuffer(blobs, np.uint8)


def _from_json(data: bytes, count: int) -> NDArray[np.uint8]:
    """Return the values of a JSON array, nested or flat: its inner brackets say nothing that the shape does not."""
    if not data.lstrip().startswith(b"["):
        raise Refusal(400, "input 'image' has neither data, a JSON array, nor a binary_data_size; give one of them")
    try:
        values = msgspec.json.decode(b"[" + data.translate(None, b"[]") + b"]", type=list[Byte])
    except msgspec.DecodeError as error:
        raise Refusal(400, f"input 'image' has data that are no numbers of 0 to 255 ({error})") from None
    if len(values) != count:
        raise Refusal(400, f"input 'image' has {len(values)} values in its data; its shape has {count}")
    return np.array(values, np.uint8)


def chosen_outputs(request: InferRequest, offered: Sequence[str]) -> list[RequestedOutput]:
    """Return the outputs that a request wants; all that are offered where it names none.

    Raises:
        Refusal: it wants one that there is not, or one twice.
    """
    wanted = request.outputs or [RequestedOutput(name) for name in offered]
    for output in wanted:
        if output.name not in offered:
            raise Refusal(400, f"unknown output {output.name[:100]!r}; {did_you_mean(output.name[:100], offered)}")
    if len({output.name for output in wanted}) < len(wanted):
        raise Refusal(400, "an output is named twice; name each once")
    return wanted


@dataclass(frozen=True)
class Encoded:
    """An answer: its JSON, and the bytes of tensors that follow."""

    head: bytes
    blobs: tuple[bytes, ...]

    @property
    def content(self) -> bytes:
        """The body."""
        return b"".join((self.head, *self.blobs))


def encode(
    name: str, request: InferRequest, outputs: Sequence[RequestedOutput], arrays: Mapping[str, NDArray[Any]]
) -> Encoded:
    """Return an answer.

    Args:
        name: of the model.
        request: what is answered.
        outputs: that it wants.
        arrays: of these names, of the types in `TYPES`.

    Raises:
        Refusal: as JSON it would be too long.
    """
    blobs: list[bytes] = []
    tensors: list[dict[str, Any]] = []
    in_json = sum(arrays[output.name].size for output in outputs if not request.is_binary(output))
    if in_json > JSON_VALUES:
        raise Refusal(
            413, f"the outputs have {in_json:,} values, more than {JSON_VALUES:,} as JSON; ask for binary_data"
        )
    for output in outputs:
        array = arrays[output.name]
        datatype = next(name for name, dtype in TYPES.items() if dtype == array.dtype)
        tensor: dict[str, Any] = {"name": output.name, "datatype": datatype, "shape": list(array.shape)}
        if request.is_binary(output):
            blobs.append(np.ascontiguousarray(array, TYPES[datatype]).tobytes())
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = array.ravel().tolist()
        tensors.append(tensor)
    said: dict[str, Any] = {"model_name": name, "model_version": VERSION, "outputs": tensors}
    if request.id:
        said["id"] = request.id
    return Encoded(msgspec.json.encode(said), tuple(blobs))
