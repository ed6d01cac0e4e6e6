"""The description of all addresses, for programs that make clients and tests of it (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Any

from ..core.machine import versions
from .answers import JSON, MASK, OVERLAY
from .models import Models

_ERROR = {"$ref": "#/components/schemas/Error"}
_ERRORS = {
    400: "The request is not what the address takes.",
    401: "The token is missing or wrong.",
    404: "There is no such model.",
    406: "None of the media types in Accept is to be had.",
    408: "The body did not come in time.",
    413: "The body or the picture is too large.",
    415: "The body is a form, or its encoding is unknown.",
    422: "The picture cannot be decoded or segmented.",
    503: "There is no place in the queue; come again after so many seconds.",
}
_NAME = {"name": "name", "in": "path", "required": True, "description": "Name of the model."}
_VERSION = {"name": "version", "in": "path", "required": True, "description": "Always 1.", "schema": {"enum": ["1"]}}
_BYTES = {"type": "string", "format": "binary"}


def description(models: Models, needs_token: bool) -> dict[str, Any]:
    """Return the description of a server.

    Args:
        models: that it offers, which are the values of an address's ``{name}``.
        needs_token: whether requests have to show a token.
    """
    names = {**_NAME, "schema": {"enum": [model.name for model in models]}}
    paths: dict[str, Any] = {
        "/v1/segment/{name}": {"parameters": [names], "post": _segment()},
        "/v1/models": _get("models", "List the networks.", "Models"),
        "/v1/models/{name}": {"parameters": [names], **_get("model", "Classes and colours.", "Model", 404)},
        "/v2": _get("server", "Name and version of the server.", "Server"),
        "/v2/health/live": _get("live", "Whether the server runs.", "Live"),
        "/v2/health/ready": _get("ready", "Whether requests are welcome.", "Ready", 503),
        "/metrics": {"get": _operation("metrics", "Counters for Prometheus.", {"text/plain": {"type": "string"}})},
    }
    for version, parameters in (("", [names]), ("/versions/{version}", [names, _VERSION])):
        place, tail = f"/v2/models/{{name}}{version}", "_version" if version else ""
        paths |= {
            place: {"parameters": parameters, **_get(f"metadata{tail}", "Inputs and outputs.", "Metadata", 404)},
            f"{place}/ready": {
                "parameters": parameters,
                **_get(f"model_ready{tail}", "Whether the model takes requests.", "ModelReady", 404, 503),
            },
            f"{place}/infer": {"parameters": parameters, "post": _infer(tail)},
        }
    said: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "featherseg",
            "version": versions(("featherseg",))["featherseg"],
            "description": "Pictures in, masks out. The addresses below /v2 are the Open Inference Protocol.",
        },
        "paths": paths,
        "components": {"schemas": _schemas()},
    }
    if needs_token:
        said["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        said["security"] = [{"token": []}]
        for place, item in paths.items():
            for operation in (item.get("get"), item.get("post")):
                if operation and not place.startswith("/v2/health/"):
                    operation["responses"]["401"] = _refusal(401)
    return said


def _segment() -> dict[str, Any]:
    content = {MASK: _BYTES, OVERLAY: _BYTES, JSON: {"$ref": "#/components/schemas/Figures"}}
    operation = _operation(
        "segment",
        f"Segment a picture: {MASK} is its mask, a palette PNG of class ids; {OVERLAY} an overlay with legend.",
        content,
        *(400, 404, 406, 408, 413, 415, 422, 503),
    )
    operation["requestBody"] = {"required": True, "content": {"image/*": {"schema": _BYTES}}}
    return operation


def _infer(tail: str) -> dict[str, Any]:
    answer = {JSON: {"$ref": "#/components/schemas/InferResponse"}, "application/octet-stream": _BYTES}
    operation = _operation(
        f"infer{tail}", "Segment the images of a tensor.", answer, *(400, 404, 408, 413, 415, 422, 503)
    )
    operation["requestBody"] = {
        "required": True,
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/InferRequest"}}},
    }
    return operation


def _get(name: str, summary: str, schema: str, *refusals: int) -> dict[str, Any]:
    return {"get": _operation(name, summary, {JSON: {"$ref": f"#/components/schemas/{schema}"}}, *refusals)}


def _operation(name: str, summary: str, content: dict[str, Any], *refusals: int) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": "Done.", "content": {kind: {"schema": schema} for kind, schema in content.items()}}
    }
    responses |= {str(status): _refusal(status) for status in refusals}
    if 503 in refusals and name not in ("segment",) and not name.startswith("infer"):
        responses["503"] = {**responses["200"], "description": "The server is ending."}
    return {"operationId": name, "summary": summary, "responses": responses}


def _refusal(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _ERRORS[status], "content": {JSON: {"schema": _ERROR}}}
    if status == 503:
        answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return answer


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def _list(of: Any) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _schemas() -> dict[str, Any]:
    text, whole, truth = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    numbers = {"type": "object", "additionalProperties": share}
    ring = _list(_list({"type": "number"}))
    piece = _object(
        {"class": text, "id": whole, "area": whole, "box": _list(whole), "confidence": share, "polygon": _list(ring)}
    )
    port = _object({"name": text, "datatype": text, "shape": _list(whole)})
    free = {"type": "object"}
    tensor = _object({"name": text, "datatype": text, "shape": _list(whole)}, parameters=free, data=_list({}))
    classes = _object({"names": _list(text), "colors": _list(_list(whole)), "ignore_index": whole})
    model = _object({"name": text, "network": text, "parameters": whole, "stride": whole, "classes": classes})
    image = {
        **_object(
            {
                "name": {"const": "image"},
                "datatype": {"const": "UINT8"},
                "shape": {**_list({"type": "integer", "minimum": 1}), "minItems": 4, "maxItems": 4},
                "data": _list({"type": "integer", "minimum": 0, "maximum": 255}),
            }
        ),
    }
    output = _object({"name": {"enum": ["mask", "logits"]}}, parameters=free)
    return {
        "Error": _object({"error": {"type": "string", "pattern": "^[^\\n]+$"}}),
        "Models": _object({"models": _list(model)}),
        "Model": model,
        "Figures": _object({"size": _list(whole), "coverage": numbers, "confidence": share, "instances": _list(piece)}),
        "Server": _object({"name": text, "version": text, "extensions": _list(text)}),
        "Live": _object({"live": truth}),
        "Ready": _object({"ready": truth}),
        "ModelReady": _object({"name": text, "ready": truth}),
        "Metadata": _object(
            {"name": text, "versions": _list(text), "platform": text, "inputs": _list(port), "outputs": _list(port)}
        ),
        "InferRequest": _object(
            {"inputs": {**_list(image), "minItems": 1, "maxItems": 1}}, id=text, parameters=free, outputs=_list(output)
        ),
        "InferResponse": _object(
            {"model_name": text, "model_version": text, "outputs": _list(tensor)}, id=text, parameters=free
        ),
    }
