"""The command line: parse, call one function of the pipeline, print. The only place that prints, exits or catches."""

import os
import platform
import shlex
import sys
import tempfile
import traceback

import click

from qface_toolkit import __version__
from qface_toolkit._process import settle_process
from qface_toolkit.cli._options import Group
from qface_toolkit.cli.benchmark import benchmark
from qface_toolkit.cli.check import check
from qface_toolkit.cli.completion import completion
from qface_toolkit.cli.compress import compress
from qface_toolkit.cli.evaluate import evaluate
from qface_toolkit.cli.export import export
from qface_toolkit.cli.inspect import inspect
from qface_toolkit.cli.list import list_
from qface_toolkit.cli.recipes import recipes
from qface_toolkit.cli.synth import synth
from qface_toolkit.cli.train import train
from qface_toolkit.cli.verify import verify
from qface_toolkit.errors import QFaceError


def main() -> None:
    """Run the command line and exit: 0 done, 1 yours to mend, 2 usage, 3 our bug, 130 interrupted."""
    settle_process(spinning=sys.argv[1:2] == ["benchmark"])
    try:
        sys.exit(qface.main(prog_name="qface", standalone_mode=False) or 0)
    except QFaceError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        sys.exit(_refused_by_the_disk(error))
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, click.Abort):
        left = "; what was finished is in OUT.partial (--resume)" if sys.argv[1:2] in (["compress"], ["train"]) else ""
        click.echo(f"interrupted{left}", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except Exception:  # noqa: BLE001 - the one boundary: an error that is not a QFaceError is a bug of ours
        sys.exit(_own_bug())


def _refused_by_the_disk(error: OSError) -> int:
    """Say what a file or a folder was refused for; an error without one is no user's to mend."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return _own_bug()
    what = f"this cannot be read or written: {error.strerror or error}"
    said = QFaceError(what, where=os.fsdecode(error.filename), fix="check the path, and who may read or write there")
    click.echo(f"error: {said}", err=True)
    return 1


def _own_bug() -> int:
    trace = traceback.format_exc()
    lines = [f"qface_toolkit {__version__}", f"python {platform.python_version()}", platform.platform(), "", trace]
    try:
        with tempfile.NamedTemporaryFile("w", prefix="qface-", suffix=".log", delete=False) as log:
            log.write("\n".join([shlex.join(sys.argv), *lines]))
        told = f"in {log.name}"
    except OSError:
        told = "\n".join(["this:", *lines[:3]])
    click.echo(f"{trace}\nthis is a bug in qface_toolkit {__version__}; what we need to know is {told}", err=True)
    return 3


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qface")
def qface() -> None:
    """Compress a pretrained face-recognition model to a true int8 model, without one real face.

    \b
    Try it:   qface compress demo --out demo-out
    """


for _command in (
    compress,
    evaluate,
    benchmark,
    inspect,
    verify,
    check,
    export,
    train,
    synth,
    list_,
    recipes,
    completion,
):
    qface.add_command(_command)
