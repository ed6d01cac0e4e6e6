"""The application that commands register with, and the options they share."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from ..core.errors import ConfigError, require
from ..core.machine import versions
from ..core.text_files import shortened

# Examples are indented blocks: a section called "Example" would be taken out of the help as part of the docstring.
HELP = """Lightweight real-time semantic segmentation: from images and masks to a small, proven file.

For example:

    featherseg demo
    featherseg train recipes/camvid_fastsegnet.toml data.root=~/CamVid
    featherseg export runs/camvid_fastsegnet -o street.onnx
    featherseg predict street.onnx photos/ -o out

With --verbose an error also says where it came from. Exit codes: 0 done, 1 a verification failed (doctor: findings),
2 a mistake in what was given, 130 interrupted.
"""


def version_text() -> str:
    """Return featherseg's version, and those of what runs and trains networks where installed, a line each."""
    found = versions(("featherseg", "onnxruntime", "torch")) | {"python": platform.python_version()}
    return "\n".join(f"{package} {number}" for package, number in found.items())


app = App(
    name="featherseg",
    help=HELP,
    version=version_text,
    version_flags=["--version"],
    help_format="plaintext",  # rendering Markdown takes longer to import than all the rest
    version_format="plaintext",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,  # main() ends an interrupted command with a word
)

MODEL_HELP = "An .onnx file, run folder or weights file (the street network that comes along where left out)"

Json = Annotated[bool, Parameter(name="--json", help="Print the result as JSON.", show_default=False)]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], help="Show no progress.", show_default=False)]
Out = Annotated[Path, Parameter(name=["--out", "-o"], help="Folder to write to.")]
SizeText = Annotated[str | None, Parameter(name="--size", help="HxW that images are resized to for the network.")]
FitText = Annotated[
    Literal["stretch", "letterbox", "tile"] | None,
    Parameter(name="--fit", help="How images come to --size; stretch by default."),
]
Data = Annotated[str | None, Parameter(name="--data", help="Folder of the data; by default the run's own.")]
Kind = Annotated[str | None, Parameter(name="--kind", help="Dataset kind; by default the one it was trained on.")]
Split = Annotated[str | None, Parameter(name="--split", help="Split; by default the validation split.")]
Threads = Annotated[int | None, Parameter(name="--threads", help="Threads of the engine; by default all.")]
RayFlag = Annotated[
    bool, Parameter(name="--ray", help="Share the work among processes, here or on a cluster.", show_default=False)
]
Workers = Annotated[
    int | None, Parameter(name="--workers", help="With --ray: processes; one for each processor by default.")
]
ALPHA = 0.6
"""As in :mod:`featherseg.runtime.draw`, which takes a while to import."""
Alpha = Annotated[float, Parameter(name="--alpha", help="Share of the colours in overlays, 0 to 1.")]
Background = Annotated[
    bool, Parameter(name="--background", help="Colour the background in overlays too.", show_default=False)
]


def need_training(purpose: str = "Training") -> None:
    """Refuse what the base install cannot do."""
    for module in ("torch", "lightning_fabric"):
        require(module, "train", purpose)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return ``"HxW"`` as (height, width); None stays None."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text, re.ASCII | re.IGNORECASE)
    if match is None:
        raise ConfigError(f"--size is {shortened(repr(text))}; write height x width, such as 512x1024")
    return int(match[1]), int(match[2])
