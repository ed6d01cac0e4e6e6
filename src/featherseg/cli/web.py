"""The command that writes a page for browsers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .app import Json, Threads, app


@app.command
def web(
    model: Annotated[
        Path | None,
        Parameter(
            help="An .onnx file or a folder that ship wrote (the street network that comes along where left out)."
        ),
    ] = None,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder to write.")] = Path("page"),
    golden: Annotated[
        Path | None,
        Parameter(help="Image that the page proves itself on; by default the folder's own, or a made-up street."),
    ] = None,
    runtime: Annotated[
        str, Parameter(help="Where ONNX Runtime comes from: cdn, or the folder of the npm package onnxruntime-web.")
    ] = "cdn",
    title: Annotated[str | None, Parameter(help="Title of the page; by default the file's name.")] = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Write a page that segments pictures and cameras in the browser, on any device, and proves itself there first.

    No picture leaves the device. Any web server can serve the folder.

    For example:

        featherseg web mine.onnx -o page
        featherseg web dist --runtime node_modules/onnxruntime-web -o page
        python -m http.server -d page
    """
    from ..core.images import read_image
    from ..evaluation.opening import STREET
    from ..shipping.folder import read_model_folder
    from ..web.page import write_page
    from .tables import print_json, print_text

    chosen, own = read_model_folder(model) if model is not None and model.is_dir() else (model or STREET, None)
    shown = golden or own
    page = write_page(
        chosen,
        out,
        golden=read_image(shown) if shown is not None else None,
        runtime=runtime,
        title=title,
        threads=threads,
    )
    if json:
        facts = {"folder": str(page.folder), "bytes": page.bytes, "runtime": page.runtime.address}
        print_json(facts | {"classes_in_golden_mask": page.classes_seen})
        return
    print_text(
        f"{page.folder}, {page.bytes / 1e6:.1f} MB; ONNX Runtime {page.runtime.version} from "
        f"{page.runtime.host or 'the folder itself'}\nto look at it here: python -m http.server -d {page.folder}"
    )
