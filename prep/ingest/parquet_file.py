"""A raw table that is a parquet file already: the same rules, but a row that breaks one is an error."""

from collections.abc import Callable
from pathlib import Path

import duckdb

from prep import duck
from prep.errors import PrepError, first_line
from prep.ingest import rules
from prep.manifest import Content, content_of
from prep.shop import RawTable


class ParquetFile:
    """One parquet file: its columns and its rules."""

    def __init__(self, con: duckdb.DuckDBPyConnection, path: Path, table: RawTable) -> None:
        self.path = path
        try:
            self._types = duck.types(con, duck.scan(path))
        except (duckdb.Error, UnicodeDecodeError) as error:
            raise PrepError(f"{path} cannot be read as parquet ({first_line(error)}): make it again.") from error
        self.known = {column.name: column for column in table.columns if column.name in self._types}
        if missing := [one.name for one in table.columns if not one.optional and one.name not in self.known]:
            raise PrepError(f"{path} lacks the column {', '.join(missing)}: it must be there.")

    def content(self, go_on: Callable[[], None]) -> Content:
        """The file's content hash; `go_on`, asked for each block, may raise."""
        return content_of(self.path, lambda block: go_on())

    def scan(self) -> str:
        return duck.scan(self.path)

    def columns(self) -> str:
        """SQL: the columns of the file to write."""
        return ", ".join(
            rules.typed(self.known[name]) if name in self.known else duck.identifier(name) for name in self._types
        )

    def check(self, con: duckdb.DuckDBPyConnection) -> None:
        """Refuse a file with a cell that breaks a rule; names the column, the number of rows and an example."""
        for name, column in self.known.items():
            broken = f"from {self.scan()} where not {rules.rule(column, self._types[name])}"
            ((rows,),) = con.sql(f"select count(*) {broken}").fetchall()
            if rows:
                cell = f"select left(cast({duck.identifier(name)} as varchar), 60) {broken} limit 1"
                ((text,),) = con.sql(cell).fetchall()
                what = "an empty cell" if text is None else f"{text!r}, which is not {rules.wanted(column)}"
                raise PrepError(f"{self.path}, column {name}: {rows:,} rows hold such as {what}; mend the file.")
