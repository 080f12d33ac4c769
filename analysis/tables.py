"""Tables row by row, and as files: CSV, parquet and LaTeX."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import csv, parquet

LATEX_ROWS = 40  # a page of paper; the other files have all rows


def rows(table: pd.DataFrame) -> Iterator[Any]:
    """The rows, columns as attributes."""
    return iter(table.itertuples(index=False))


def write_table(table: pd.DataFrame, folder: Path, name: str) -> None:
    """`<name>.csv` and `<name>.parquet` with all rows, `<name>.tex` with the first `LATEX_ROWS` (needs booktabs)."""
    whole = pa.Table.from_pandas(table, preserve_index=False)
    csv.write_csv(whole, folder / f"{name}.csv")
    parquet.write_table(whole, folder / f"{name}.parquet")
    (folder / f"{name}.tex").write_text(to_latex(table), encoding="utf-8")


def to_latex(table: pd.DataFrame) -> str:
    """A tabular of the first `LATEX_ROWS` rows, numbers to 4 digits, empty where there is none."""
    shown = table.head(LATEX_ROWS)
    formatted = {name: [_cell(value) for value in shown[name]] for name in shown}
    return pd.DataFrame(formatted).to_latex(index=False, escape=True)


def _cell(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
