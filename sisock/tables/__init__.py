"""Append-only tables: typed columns, rows that are numbered for ever, in memory and on disk."""

from sisock.tables.columns import Columns, ColumnType
from sisock.tables.store import Tables
from sisock.tables.table import Table, TableRows

__all__ = ["ColumnType", "Columns", "Table", "TableRows", "Tables"]
