"""`qface export`."""

import json
from pathlib import Path

import click

from qface_toolkit.cli._voice import FOLDER, json_option


@click.command(no_args_is_help=True)
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--backend", required=True, metavar="NAME", help="The form to write.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change where it will run; see below.")
@click.option("--out", metavar="FILE", help="The new file's name in DIR, instead of the backend's own.")
@click.option("--force", is_flag=True, help="Replace a file of that name.")
@json_option
def export(folder: Path, backend: str, sets: tuple[str, ...], out: str | None, force: bool, as_json: bool) -> None:
    """Lower the finished result in DIR again, for another runtime, machine or input.

    These can be set: target.onnxruntime, target.vnni, target.prelu (twin or scaled), export.input (float or uint8).

    \b
    qface export demo-out --backend torch-onednn
    qface export out --backend onnx-packed
    qface export out --backend onnx-x86 --set target.vnni=false --out old.onnx
    """
    from qface_toolkit.pipeline import export_all, exported_values

    artifacts = export_all(folder, backend, sets=sets, out=out, force=force)
    values = [exported_values(artifact) for artifact in artifacts] if as_json else []
    click.echo(json.dumps(values[0] if len(values) == 1 else values) if as_json else "\n".join(map(str, artifacts)))
