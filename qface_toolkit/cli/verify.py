"""`qface verify`."""

import json
from pathlib import Path

import click

from qface_toolkit.cli._options import PATH, Command
from qface_toolkit.cli._voice import progress, show, voice_options


@click.command(cls=Command, short_help="Tell whether a result computes here what it did there.", no_args_is_help=True)
@click.argument("folder", type=PATH, metavar="DIR")
@voice_options
def verify(folder: Path, as_json: bool, quiet: bool) -> int:
    """Check the result in DIR, and run its golden vectors on this machine's runtimes.

    Exit code 0 if everything that runs here gives what it gave where it was made, 1 if not.

    \b
    qface verify demo-out
    """
    from qface_toolkit.environment import record_environment
    from qface_toolkit.pipeline import verify as verify_result
    from qface_toolkit.report import render_verdicts, verdict_values

    with progress(quiet or as_json) as tell:
        found = verify_result(folder, tell=tell)
    environment = record_environment(seed=0, threads=1)
    if as_json:
        click.echo(json.dumps(verdict_values(found, environment)))
    else:
        show(render_verdicts(found, environment))
    return 0 if found.trustworthy else 1
