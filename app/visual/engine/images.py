"""Images in a table: a column whose cells are PNG files, all of one size and with the same channels."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.visual.engine import archives
from app.visual.engine.values import NodeFailure

IMAGE, LABEL = "image", "label"
"""The columns of a set of images."""
MODES = {"grey": "L", "colour": "RGB"}
"""What is chosen -> Pillow's word for it."""
MOST_PIXELS = 64 * 1024**2
"""Of one image as it is uploaded: a small file may unfold into a very large one."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def is_image(column: pd.Series) -> bool:
    """Whether a column has images."""
    if column.dtype != object or not len(column):
        return False
    first = column.iloc[0]
    return isinstance(first, bytes) and first.startswith(_SIGNATURE)


def shape_of(cell: bytes) -> tuple[int, int, int]:
    """Channels, height and width, as the file's head has them."""
    width, height = int.from_bytes(cell[16:20], "big"), int.from_bytes(cell[20:24], "big")
    return {0: 1, 2: 3}[cell[25]], height, width


def pixels(column: pd.Series) -> np.ndarray[Any, Any]:
    """Images as numbers between 0 and 1: (rows, channels, height, width). Raises :class:`NodeFailure`."""
    from PIL import Image

    shapes = {shape_of(cell) for cell in column}
    if len(shapes) != 1:
        raise NodeFailure(f"The images are of {len(shapes)} sizes: read them with one height and width")
    channels, height, width = shapes.pop()
    found = np.empty((len(column), channels, height, width), np.float32)
    for row, cell in enumerate(column):
        read = np.asarray(Image.open(io.BytesIO(cell)), np.float32) / np.float32(255)
        found[row] = read[None] if channels == 1 else read.transpose(2, 0, 1)
    return found


def read_archive(path: Path, mode: str, height: int, width: int) -> pd.DataFrame:
    """The images of an archive, each with its class, made of one size.

    Raises :class:`NodeFailure`, which names the image that cannot be read.
    """
    cells, labels = [], []
    with zipfile.ZipFile(path) as archive:
        for label, names in archives.classes_of(path).items():
            for name in names:
                cells.append(_as_png(archive.read(name), name, mode, (width, height)))
                labels.append(label or None)
    return pd.DataFrame({IMAGE: pd.Series(cells, dtype=object), LABEL: pd.Series(labels, dtype=object)})


def _as_png(content: bytes, name: str, mode: str, measure: tuple[int, int]) -> bytes:
    """An image of this mode and measure (width, height) as a PNG file; what is seen through is white behind."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise NodeFailure(f"The image {name} has {opened.width} x {opened.height} pixels: make it smaller")
            upright = ImageOps.exif_transpose(opened)
            if upright.has_transparency_data:
                layered = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
            made = upright.convert(MODES[mode]).resize(measure, Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise NodeFailure(f"The image {name} cannot be read: {error}") from error
    written = io.BytesIO()
    made.save(written, "PNG", compress_level=1)
    return written.getvalue()
