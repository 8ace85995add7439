"""`qface synth`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qface_toolkit.cli._options import Command, number_option, out_option, seed_option
from qface_toolkit.cli._voice import progress, voice_options, warn_of_images

if TYPE_CHECKING:
    from qface_toolkit.models import FloatModel


@click.command(cls=Command, short_help="Write calibration images, to look at them.", no_args_is_help=True)
@click.argument("name", metavar="SET")
@out_option("The folder to write.", required=True)
@number_option("--count", "How many images, instead of the set's own count.", least=1)
@seed_option(None)
@click.option(
    "--for",
    "checkpoint",
    metavar="CHECKPOINT",
    help="The model that the images are for, which sets of the kind matched need.",
)
@voice_options
def synth(
    name: str, out: Path, count: int | None, seed: int | None, checkpoint: str | None, as_json: bool, quiet: bool
) -> None:
    """Write the calibration images of SET, their manifest and a contact sheet to look at.

    SET is a name (see `qface list sets`) or a YAML file.

    \b
    qface synth drawings --out drawings --count 64
    qface synth matched --for backbone.pth --out matched
    """
    from qface_toolkit.sources import find_set, write_set

    with progress(quiet or as_json) as tell:
        model = _loaded(checkpoint)
        manifest = write_set(find_set(name), out, count, seed, model, tell("write the images"))
    warn_of_images(manifest.warnings, quiet)
    if as_json:
        click.echo(json.dumps(manifest.as_json()))
    elif not quiet:
        click.echo(f"{manifest.count} images in {out} - look at {out / 'contact_sheet.png'}")


def _loaded(checkpoint: str | None) -> "FloatModel | None":
    if checkpoint is None:
        return None
    from qface_toolkit.models import load_model

    return load_model(checkpoint)
