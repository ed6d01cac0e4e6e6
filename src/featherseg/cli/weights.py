"""The command that lists published weights and fetches them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from ..core.errors import ConfigError
from .app import Json, Quiet, app, need_training


@app.command
def weights(
    network: str | None = None,
    /,
    *,
    fetch: Annotated[str | None, Parameter(help="Fetch those trained on this data, such as cityscapes.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """List weights that others published: network, data, score and whose it is, licence and terms, and if it is here.

    Recipes and the command line take them as a start, model.init=cityscapes, or as a teacher of any network,
    distill.teacher=fddwnet:cityscapes.

    For example:

        featherseg weights
        featherseg weights fddwnet --fetch cityscapes

    Args:
        network: list those of one network alone.
    """
    need_training("Listing weights")
    from ..core.progress import show_progress
    from ..models.factory import models
    from ..models.published import PUBLISHED, published
    from .tables import print_json, print_table, print_text

    show_progress(not quiet)
    if network is not None:
        models.get(network)  # refuses an unknown name with a suggestion
    if fetch is not None:
        if network is None:
            raise ConfigError("--fetch wants a network before it, such as weights fddwnet --fetch cityscapes")
        fetched = published(network, fetch).fetch()
        print_json({"path": str(fetched)}) if json else print_text(str(fetched))
        return
    listed = [(each, each.local()) for each in PUBLISHED if network in (None, each.network)]
    if json:
        print_json(
            [
                asdict(each) | {"classes": list(each.classes.names), "path": str(path) if path else None}
                for each, path in listed
            ]
        )
        return
    rows = []
    for each, path in listed:
        options = ", ".join(f"{key}={value}" for key, value in each.options.items())
        name = f"{each.network} ({options})" if options else each.network
        here = "here" if path else "to be fetched"
        size = f"{each.bytes / 1e6:.1f}"
        rows.append((name, each.data, str(len(each.classes)), each.score, size, each.code, each.terms, here))
    columns = ("network", "data", "classes", "score", "MB", "code", "terms of the data", "")
    print_table("", columns, rows)
    print_text("model.init=DATA starts a training from them; FEATHERSEG_WEIGHTS names a folder to look in first")
