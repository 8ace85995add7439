"""`qface export`."""

import json
from pathlib import Path

import click

from qface_toolkit.cli._options import PATH, Command, force_option, set_option
from qface_toolkit.cli._voice import progress, voice_options, warn


@click.command(cls=Command, short_help="Write a result for another runtime or machine.", no_args_is_help=True)
@click.argument("folder", type=PATH, metavar="DIR")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    required=True,
    metavar="NAME",
    help="The form to write; see `qface list backends`. May be given again.",
)
@set_option("Change where it will run, such as target.vnni=false.")
@click.option("--name", metavar="FILE", help="The new file's name in DIR, instead of the backend's own.")
@click.option("--out", "old_name", metavar="FILE", hidden=True)
@force_option("Replace a file of that name.")
@voice_options
def export(
    folder: Path,
    backends: tuple[str, ...],
    sets: tuple[str, ...],
    name: str | None,
    old_name: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Lower the finished result in DIR again, for another runtime, machine or input.

    The new file goes into DIR, and the folder's manifest and golden vectors know it from then on. These can be set:
    target.onnxruntime, target.vnni, target.prelu (twin or scaled) and export.input (float or uint8).

    \b
    qface export demo-out --backend torch-onednn
    qface export out --backend onnx-packed
    qface export out --backend onnx-x86 --set target.vnni=false --name old.onnx
    """
    from qface_toolkit.pipeline import export_all, exported_values

    if old_name is not None:
        warn(["--out is called --name here, and will be gone in the next release"], quiet)
    with progress(quiet or as_json) as tell:
        artifacts = export_all(folder, backends, sets=sets, name=name or old_name, force=force, tell=tell)
    if as_json:
        click.echo(json.dumps({"artifacts": [exported_values(artifact) for artifact in artifacts]}))
    else:
        click.echo("\n".join(map(str, artifacts)))
