"""`qface inspect`."""

import json
from pathlib import Path

import click

from qface_toolkit.cli._voice import FOLDER, json_option, progress, show


@click.command(no_args_is_help=True)
@click.argument("model", type=FOLDER)
@click.option("--sensitivity", is_flag=True, help="Of a result: what each quantizer costs, alone and left out.")
@json_option
def inspect(model: Path, sensitivity: bool, as_json: bool) -> None:
    """Show what the runtime really runs for MODEL: .onnx, .ts or a result's folder.

    Operators after its own optimization with their time, and every part left in float with its cost and the reason.

    \b
    qface inspect demo-out/int8.x86.onnx
    qface inspect demo-out --sensitivity
    """
    if sensitivity:
        _say_sensitivity(model, as_json)
        return
    from qface_toolkit.pipeline import inspect as inspect_files
    from qface_toolkit.report import inspection_values, render_inspection

    found = inspect_files(model)
    if as_json:
        click.echo(json.dumps(inspection_values(found)))
    else:
        show(render_inspection(found))


def _say_sensitivity(folder: Path, as_json: bool) -> None:
    from qface_toolkit.pipeline import sensitivity
    from qface_toolkit.report import render_sensitivity

    with progress(as_json) as tell:
        found = sensitivity(folder, tell)
    if as_json:
        click.echo(found.model_dump_json())
    else:
        show(render_sensitivity(found))
