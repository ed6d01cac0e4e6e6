"""The command that examines a dataset."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .app import Json, Quiet, app


@app.command
def doctor(
    data: Path,
    /,
    *,
    kind: Annotated[str | None, Parameter(help="Dataset kind; by default inferred from the layout.")] = None,
    classes: Annotated[str | None, Parameter(help="Class file, or names such as road,sky,car.")] = None,
    images: Annotated[
        str | None, Parameter(help="Which files are images: a folder, or a pattern such as '*.jpg'.")
    ] = None,
    masks: Annotated[str | None, Parameter(help="Which files are masks, where there are several sets.")] = None,
    html: Annotated[Path | None, Parameter(help="Page to write.")] = None,
    fix: Annotated[Path | None, Parameter(help="New folder for a clean copy; the data is never changed.")] = None,
    stride: Annotated[int, Parameter(help="The network's, which thin classes are to suit.")] = 8,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Examine a folder of images and masks: what is wrong, what follows from it, and what to do.

    For example:

        featherseg doctor photos
        featherseg doctor photos --html photos.html --fix photos_clean
        featherseg train photos_clean/featherseg.toml

    Ends with 0 where nothing but notes was found (with --fix: in the copy), with 1 where more was, and with 2 where
    the data cannot be read.

    Args:
        data: folder of the data.
    """
    from ..core.outputs import Outputs, writing
    from ..core.progress import counting, show_progress
    from ..doctor.examine import examine
    from ..doctor.mend import make_clean_copy, require_new_folder
    from ..doctor.page import write_page
    from ..doctor.text import report_text
    from .tables import print_json, print_text

    show_progress(not quiet)
    if fix is not None:  # before minutes of looking at files
        require_new_folder(fix, data)
    if html is not None:
        Outputs().require([html.expanduser()])
    options = {key: word for key, word in (("images", images), ("masks", masks)) if word}
    with counting("examining") as update:
        examination = examine(data, kind, classes, options=options, stride=stride, progress=update)
    if html is not None:
        with writing(html):
            write_page(examination, html)
    report = examination.to_dict()
    if not json:
        print_text(report_text(examination))
    if fix is not None:
        with counting("copying") as update:
            copy = make_clean_copy(examination, fix, progress=update)
        with counting("examining the copy") as update:
            examination = examine(copy.root, stride=stride, progress=update)
        report |= {"copy": copy.to_dict() | {"examination": examination.to_dict()}}
        if not json:
            print_text(f"\n{copy.summary()}\n\n{report_text(examination)}")
    if json:
        print_json(report)
    if not examination.clean:
        sys.exit(1)
