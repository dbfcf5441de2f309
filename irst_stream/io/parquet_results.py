"""Detections and tracks as Parquet, with the rows and columns of io.csv_results; needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from irst_stream.errors import MissingPackageError
from irst_stream.io.csv_results import write_csv
from irst_stream.types import Detections, Tracks

__all__ = ["check_parquet", "write_parquet"]

TEXTS = ("sequence", "clock", "source")
INTEGERS = ("epoch", "frame", "time_ns", "region", "id", "confirmed", "detection")


def check_parquet() -> None:
    """Raise a MissingPackageError if Parquet cannot be written."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("pyarrow", "parquet", "Parquet") from error


def write_parquet(path: Path, records: Iterable[Detections | Tracks], kind: type[Detections] | type[Tracks]) -> int:
    """Write records of one kind; return the number of rows."""
    check_parquet()
    from pyarrow import csv, float64, int64, parquet, string

    with TemporaryDirectory() as folder:
        table_path = Path(folder) / "table.csv"
        count = write_csv(table_path, records, kind)
        with table_path.open(encoding="utf-8") as file:
            names = file.readline().rstrip("\n").split(",")
        types = {n: string() if n in TEXTS else int64() if n in INTEGERS else float64() for n in names}
        table = csv.read_csv(table_path, convert_options=csv.ConvertOptions(column_types=types))
        parquet.write_table(table, path)
    return count
