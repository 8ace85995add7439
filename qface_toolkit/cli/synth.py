"""`qface synth`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qface_toolkit.cli._voice import FOLDER, voice_options, warn

if TYPE_CHECKING:
    from qface_toolkit.models import FloatModel


@click.command(no_args_is_help=True)
@click.argument("name", metavar="SET")
@click.option("--out", required=True, type=FOLDER, metavar="DIR", help="The folder to write.")
@click.option("--count", type=click.IntRange(1), help="How many images.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1))
@click.option("--model", metavar="CHECKPOINT", help="What the images are for; sets of the kind matched need it.")
@voice_options
def synth(
    name: str, out: Path, count: int | None, seed: int | None, model: str | None, as_json: bool, quiet: bool
) -> None:
    """Write the calibration images of SET, their manifest and a contact sheet to look at.

    \b
    qface synth drawings --out drawings --count 64
    qface synth matched --model backbone.pth --out matched
    """
    from qface_toolkit.sources._sets import find_set, write_set

    manifest = write_set(find_set(name), out, count, seed, _loaded(model))
    warn(manifest.warnings)
    if as_json:
        click.echo(json.dumps(manifest.as_json()))
    elif not quiet:
        click.echo(f"{manifest.count} images in {out} - look at {out / 'contact_sheet.png'}")


def _loaded(checkpoint: str | None) -> "FloatModel | None":
    if checkpoint is None:
        return None
    from qface_toolkit.models import load_model

    return load_model(checkpoint)
