"""`qface inspect`."""

import json
from pathlib import Path

import click

from qface_toolkit.cli._options import PATH, Command, look_at
from qface_toolkit.cli._voice import progress, show, voice_options


@click.command(cls=Command, short_help="Show what runs on integers, and what stayed float.", no_args_is_help=True)
@click.argument("model", type=PATH)
@click.option(
    "--sensitivity", is_flag=True, help="Of the folder of a result: what each quantizer costs, alone and left out."
)
@voice_options
def inspect(model: Path, sensitivity: bool, as_json: bool, quiet: bool) -> None:
    """Show what the runtime really runs: operators after its own optimization, and their share of the time.

    MODEL is an .onnx file, a .ts archive or the folder of a result. Every part that stayed float is named, with what
    it costs and the reason. Of a result's folder each layer's time stands beside the one that it takes in
    float.fast.onnx, and the layers that lost are named.

    \b
    qface inspect demo-out/int8.x86.onnx
    qface inspect demo-out --sensitivity
    """
    look_at(model)
    if sensitivity:
        _say_sensitivity(model, as_json, quiet)
        return
    from qface_toolkit.pipeline import inspect as inspect_files
    from qface_toolkit.pipeline import layers_beside_float
    from qface_toolkit.report import inspection_values, render_inspection

    with progress(quiet or as_json) as tell:
        found = inspect_files(model, tell=tell)
        costs = layers_beside_float(model, found)
    if as_json:
        click.echo(json.dumps(inspection_values(found, costs)))
    else:
        show(render_inspection(found, costs))


def _say_sensitivity(folder: Path, as_json: bool, quiet: bool) -> None:
    from qface_toolkit.pipeline import sensitivity
    from qface_toolkit.report import render_sensitivity

    with progress(quiet or as_json) as tell:
        found = sensitivity(folder, tell)
    if as_json:
        click.echo(json.dumps({"sensitivity": found.model_dump(mode="json")}))
    else:
        show(render_sensitivity(found))
