"""How long operators take: the one table that chooses forms, predicts files and says what a layer costs."""

from qface_toolkit.times.shapes import Arithmetic, ConvShape
from qface_toolkit.times.table import TABLE, Row, TimeTable, read_rows, read_table

__all__ = ["TABLE", "Arithmetic", "ConvShape", "Row", "TimeTable", "read_rows", "read_table"]
