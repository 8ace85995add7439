"""One picture of a whole set, because nobody trusts calibration images that nobody has looked at."""

from PIL import Image

from qface_toolkit.sources._base import Crop

GAP = 4
PAPER = (245, 245, 245)


def contact_sheet(crops: Crop, columns: int = 8) -> Image.Image:
    """Return the crops, uint8 [N, H, W, 3], in rows of `columns`, in order, as one RGB picture."""
    count, height, width = crops.shape[:3]
    columns = min(columns, count)
    rows = -(-count // columns)
    size = GAP + columns * (width + GAP), GAP + rows * (height + GAP)
    sheet = Image.new("RGB", size, PAPER)
    for index, crop in enumerate(crops):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(crop), (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return sheet
