"""A folder with a folder of aligned crops for each identity, as most sets of faces are kept on disks."""

import os
from pathlib import Path

from qface_toolkit.datasets._base import FaceData, Opening
from qface_toolkit.datasets._folders import FolderData, NameList, folder_names, image_names, listing
from qface_toolkit.datasets._labels import one_identity_only
from qface_toolkit.errors import CalibrationError


class People:
    """The kind of data whose labels are folders; see Dataset."""

    def recognises(self, source: str) -> bool:
        """Tell whether this is a folder with a folder inside that holds an image."""
        return Path(source).is_dir() and _any_person(Path(source))

    def open(self, source: str, opening: Opening) -> FaceData:
        """Return the crops, sorted by folder and file name; folders without images are left out, labels or not.

        Raises:
            CalibrationError: if the folder cannot be read, or shows fewer than two identities.
        """
        folder = Path(source)
        people, counts, names = [], [], NameList()
        with listing(folder) as inside:
            for person in sorted(folder_names(inside, inside)):
                found = sorted(image_names(inside + b"/" + person, inside))
                if found:
                    people.append(person)
                    counts.append(len(found))
                    names.add(found)
        if not people:
            what, fix = "no folder in here holds an image", "give one folder of aligned crops an identity"
            raise CalibrationError(what, where=source, fix=fix)
        if len(people) == 1:
            raise one_identity_only(source, os.fsdecode(people[0]))
        return FolderData("people", folder, people, counts, names)


def _any_person(folder: Path) -> bool:
    with listing(folder) as inside:
        joined = (inside + b"/" + person for person in folder_names(inside, inside))
        return any(True for person in joined for _ in image_names(person, inside))


ENTRIES = {"people": People()}
