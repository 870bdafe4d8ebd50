"""What a cell of a raw table must be, as SQL."""

from prep.duck import identifier, literal
from prep.shop import RawColumn

# What the text of a cell must look like to become a value of the type, and what to call that. Nothing is left to
# a cast alone: DuckDB's takes 2.7 for 3, 0x10 for 16 and nan for a number.
TEXTS = {
    "date": ("[12][0-9]{3}-[0-9]{2}-[0-9]{2}", "a date like 2020-09-08"),
    "timestamp": (
        "[12][0-9]{3}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?",
        "a time like 2020-09-08 17:30:00",
    ),
    "double": ("-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]{1,2})?", "a number"),
    "bigint": ("-?[0-9]{1,18}", "a whole number"),
}


def rule(column: RawColumn, found: str = "VARCHAR") -> str:
    """Is the cell good? Never null. `found` is the type that it has in the file."""
    cell, conditions = identifier(column.name), []
    typed = f"try_cast({cell} as {column.data_type})"
    if found == "VARCHAR" and column.data_type in TEXTS:
        conditions.append(f"regexp_full_match({cell}, {literal(TEXTS[column.data_type][0])})")
    if column.pattern is not None:
        conditions.append(f"regexp_full_match(cast({cell} as varchar), {literal(column.pattern)})")
    if column.data_type == "double":  # 400 nines match the pattern and are no number that a double holds
        conditions.append(f"coalesce(isfinite({typed}), false)")
    elif column.data_type != "varchar":
        conditions.append(f"{typed} is not null")
    if found not in ("VARCHAR", column.data_type.upper()) and column.data_type != "varchar":
        conditions.append(f"try_cast({typed} as {found}) is not distinct from {cell}")  # nothing is rounded or cut
    good = " and ".join(conditions) or "true"
    return f"({cell} is not null and {good})" if column.not_null else f"({cell} is null or {good})"


def wanted(column: RawColumn) -> str:
    """What the cell must be, in words."""
    return TEXTS[column.data_type][1] if column.data_type in TEXTS and not column.pattern else column.called


def typed(column: RawColumn) -> str:
    """The cell with its type, as a column of the parquet file."""
    return f"try_cast({identifier(column.name)} as {column.data_type}) as {identifier(column.name)}"
