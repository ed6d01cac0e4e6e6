"""The command that answers over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .app import FitText, Quiet, SizeText, app


@app.command
def serve(
    models: Annotated[
        list[str] | None,
        Parameter(
            help="What to serve: .onnx files, run folders or model folders, NAME=PATH for another name (the street "
            "network that comes along where left out)."
        ),
    ] = None,
    /,
    *,
    host: Annotated[str, Parameter(help="Interface to listen on; 0.0.0.0 is all.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 takes a free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        Parameter(help="File with the token that requests must show; by default the variable FEATHERSEG_TOKEN."),
    ] = None,
    size: SizeText = None,
    fit: FitText = None,
    backend: Annotated[
        str, Parameter(help="Engine: auto for the file's own, fastest for what is measured to be, or its name.")
    ] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "any"] | None,
        Parameter(help="What is computed in; any, with --backend fastest, is whichever is fastest."),
    ] = None,
    workers: Annotated[
        int | None, Parameter(help="Pictures segmented at once; by default one for each thread of the processor.")
    ] = None,
    waiting: Annotated[int, Parameter(help="Pictures that may wait; further ones are refused with 503.")] = 16,
    max_pixels: Annotated[int, Parameter(help="Pixels that a picture may have.")] = 16_000_000,
    max_bytes: Annotated[
        int | None, Parameter(help="Bytes that a body may have; by default 3 for each pixel and 1 MiB.")
    ] = None,
    timeout: Annotated[float, Parameter(help="Seconds that sending and waiting may take together.")] = 30.0,
    page: Annotated[
        Path | None,
        Parameter(
            help="Folder that featherseg web wrote, for /; by default a page of the first .onnx file is written."
        ),
    ] = None,
    log_json: Annotated[bool, Parameter(help="Write logs as a JSON object on each line.", show_default=False)] = False,
    quiet: Quiet = False,
) -> None:
    """Answer over HTTP until it is told to end: pictures in, masks out.

    For example:

        featherseg serve
        featherseg serve street.onnx cells=runs/cells --port 8080
        curl --data-binary @street.jpg -o mask.png http://127.0.0.1:8000/v1/segment/street
    """
    from ..core.errors import ConfigError, require
    from ..evaluation.opening import STREET
    from .app import parse_size

    for module in ("starlette", "uvicorn"):
        require(module, "serve", "Serving")
    from ..serving.app import create_app
    from ..serving.limits import Limits
    from ..serving.logs import write_logs
    from ..serving.models import open_models
    from ..serving.page import page_of
    from ..serving.server import bind, read_token, run, warn_if_open

    write_logs(log_json, each_request=not quiet)
    for option, value in (("--workers", workers), ("--max-bytes", max_bytes)):
        if value is not None and value < 1:
            raise ConfigError(f"{option} is {value}; give at least 1")
    limits = Limits(pixels=max_pixels, bytes=max_bytes or 0, seconds=timeout, workers=workers or 0, waiting=waiting)
    token = read_token(token_file)
    with bind(host, port) as listener:  # first: a port that is taken is told before networks are opened
        opened = open_models(
            models or [STREET],
            workers=limits.workers,
            size=parse_size(size),
            fit=fit,
            backend=backend,
            precision=precision,
        )
        with page_of(opened, page) as shown:
            application = create_app(opened, limits, token=token, page=shown)
            warn_if_open(host, token)
            run(application, listener)
