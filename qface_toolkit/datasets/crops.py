"""A flat folder of aligned crops of which it is not said who is on them: enough to learn from a teacher."""

from pathlib import Path

from qface_toolkit.datasets._base import FaceData, Opening
from qface_toolkit.datasets._folders import FolderData, NameList, image_names, listing
from qface_toolkit.errors import CalibrationError
from qface_toolkit.framing import CROP_SIZE


class Crops:
    """The kind of data without labels; see Dataset."""

    def recognises(self, source: str) -> bool:
        """Tell whether this is a folder that holds an image itself."""
        return Path(source).is_dir() and _any_image(Path(source))

    def open(self, source: str, opening: Opening) -> FaceData:
        """Return the crops, sorted by name.

        Raises:
            CalibrationError: if the folder cannot be read or holds none.
        """
        folder, names = Path(source), NameList()
        with listing(folder) as inside:
            names.add(sorted(image_names(inside, inside)))
        if not len(names):
            fix = f"put {CROP_SIZE}x{CROP_SIZE} PNG or JPEG crops there"
            raise CalibrationError("the folder holds no crops", where=source, fix=fix)
        return FolderData("crops", folder, [b""], [len(names)], names)


def _any_image(folder: Path) -> bool:
    with listing(folder) as inside:
        return any(True for _ in image_names(inside, inside))


ENTRIES = {"crops": Crops()}
