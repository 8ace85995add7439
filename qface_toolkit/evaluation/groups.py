"""Which group each image belongs to, from a table of the user's, so that losses can be given for each."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation.people import PeopleSet
from qface_toolkit.untrusted.reading import read_file

LARGEST_BYTES = 64 << 20
MOST_GROUPS = 100
_FORM = "write one line for each image, or for each person's folder: its name, a comma, its group"


@dataclass(frozen=True)
class Groups:
    """The groups' names in the order in which they are shown, and each image's group by its place; -1 for none."""

    names: tuple[str, ...]
    of_image: npt.NDArray[np.intp]
    notes: tuple[str, ...] = ()


def read_groups(table: Path, people: PeopleSet) -> Groups:
    """Read a CSV of image,group; a first line "image,group" is a header.

    An image is named by its path in the folder, by its file name if only one image has it, or by a person's name for
    all images of that person; an image's own line goes before its person's.

    Raises:
        MeasurementError: if the table cannot be read, names what is not there, says something twice, or leaves no
            image in any group.
    """
    known, lines = _names(people), dict[str, str]()
    for number, (given, group) in _lines(table):
        where = f"{table}, line {number}"
        name = known.get(given)
        if name is None:
            raise _unknown(given, where)
        if name in lines:
            raise MeasurementError(f"{name!r} has two lines in the table of groups", where=where, fix="remove one")
        lines[name] = group
    owners = [people.people[owner] for owner in people.owners]
    chosen = [lines.get(path, lines.get(person)) for path, person in zip(people.paths, owners, strict=True)]
    names = tuple(sorted({group for group in chosen if group is not None}))
    _check_groups(names, table)
    numbers = {name: number for number, name in enumerate(names)}
    of_image = np.array([-1 if group is None else numbers[group] for group in chosen], dtype=np.intp)
    return Groups(names, of_image, _notes(of_image))


def _names(people: PeopleSet) -> dict[str, str]:
    """Return every name that a line may use, and the path or the person that it stands for."""
    paths = [*people.paths, *people.left_out]
    files = Counter(path.rpartition("/")[2] for path in paths)
    single = {path.rpartition("/")[2]: path for path in paths if files[path.rpartition("/")[2]] == 1}
    return single | {path: path for path in paths} | {person: person for person in people.people}


def _lines(table: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """Give the number and the two fields of each line that is not empty, without the header."""
    rows = csv.reader(io.StringIO(_text(table), newline=""), strict=True)
    try:
        for row in rows:
            fields = [field.strip() for field in row]
            header = rows.line_num == 1 and [field.lower() for field in fields] == ["image", "group"]
            if not any(fields) or header:
                continue
            if len(fields) != 2 or not all(fields):
                what = f"a line of the table of groups has {len(fields)} fields, or an empty one"
                raise MeasurementError(what, where=f"{table}, line {rows.line_num}", fix=_FORM)
            yield rows.line_num, (fields[0].removeprefix("./"), fields[1])
    except csv.Error as error:
        what = f"the table of groups cannot be read: {error}"
        raise MeasurementError(what, where=f"{table}, line {rows.line_num}", fix=_FORM) from error


def _text(table: Path) -> str:
    data = read_file(table, LARGEST_BYTES, noun="table of groups", kind=MeasurementError)
    try:
        return data.decode("utf-8-sig")
    except ValueError as error:
        what = f"the table of groups cannot be read: {error}"
        raise MeasurementError(what, where=str(table), fix="give a CSV file in UTF-8") from error


def _unknown(name: str, where: str) -> MeasurementError:
    what = f"the table of groups names {name!r}, which is no image and no person of this set, or several"
    return MeasurementError(what, where=where, fix="write the image's path inside the folder, as PERSON/FILE")


def _check_groups(names: tuple[str, ...], table: Path) -> None:
    if not names:
        raise MeasurementError("the table puts no image into a group", where=str(table), fix=_FORM)
    if len(names) > MOST_GROUPS:
        what = f"the table has {len(names)} groups, more than the {MOST_GROUPS} that a report shows"
        raise MeasurementError(what, where=str(table), fix="put the images into fewer groups")


def _notes(of_image: npt.NDArray[np.intp]) -> tuple[str, ...]:
    without = int((of_image < 0).sum())
    return (f"{without} of {len(of_image)} images are in no group",) if without else ()
