"""A shop is a dbt project, and what is particular to it stands in its YAML; here alone it is read.

sources.yml owns the raw columns, the contract of the model that holds the purchases the published ones with
their roles, dbt_project.yml the default dates. `meta` is explained in docs/your-own-shop.md.
"""

import functools
import os
from pathlib import Path
from typing import Any, Literal

import jinja2
import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prep.errors import PrepError

HM = Path(__file__).parents[1] / "dbt"  # the default
# The types of the published columns, by their name in DuckDB.
ARROW_TYPES = {
    "bigint": pa.int64(),
    "double": pa.float64(),
    "varchar": pa.string(),
    "timestamp": pa.timestamp("us"),
}
JINJA = jinja2.Environment()
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where it is there: ten times as fast
VARS = ("data_dir", "training_end_date", "validation_end_date", "min_interactions")
ROLES = ("item_id", "user_id", "time")  # without them there is nothing to split


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RawColumn(Frozen):
    """A column of a raw table: what its cells must be."""

    name: str
    data_type: Literal["varchar", "bigint", "double", "date", "timestamp"]
    not_null: bool
    pattern: str | None  # a regular expression for the whole text
    called: str  # what the cell must be, in words
    optional: bool  # the file may lack it, which makes it null


class RawTable(Frozen):
    """A file that stage 1 reads."""

    name: str
    holds: Literal["purchases", "items", "users", "other"]
    key: str | None  # of items and users: the column that stands once for each
    user: str | None  # of purchases: the column that says whose they are
    item: str | None  # of purchases: the column that says of what
    unknown: Literal["left_out", "stay"]  # what the shop's models do with purchases that this table does not know
    columns: tuple[RawColumn, ...]


class Column(Frozen):
    """A published column."""

    name: str
    data_type: Literal["bigint", "double", "varchar", "timestamp"]
    of: Literal["item", "user", "purchase"]
    role: Literal["item_id", "user_id", "time", "price", "amount", "quantity"] | None
    precision: Literal["day", "second"]  # of a time
    drift: bool  # does the card compare train and test by it?


class Shop(Frozen):
    """What the three stages know of a shop. model_dump() is plain data, Shop(**data) reads it again."""

    project: str  # the folder
    data_dir: str  # its own, for what the stages read and write
    training_end_date: str
    validation_end_date: str
    tables: tuple[RawTable, ...]
    columns: tuple[Column, ...]  # of filtered_dataframe, in their order
    grain: tuple[str, ...]  # the row key, which is the order of the rows too
    item_columns: tuple[Column, ...] = Field(default=())  # of the item table, where the shop has one

    @functools.cached_property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def with_role(self, role: str) -> str | None:
        """The name of the column with this role, None when the shop has none."""
        return next((column.name for column in self.columns if column.role == role), None)

    def names_of(self, what: str) -> list[str]:
        """The columns that describe the item, the user or the purchase."""
        return [column.name for column in self.columns if column.of == what]

    @property
    def user(self) -> str:
        return self.key("user")

    @property
    def item(self) -> str:
        return self.key("item")

    def key(self, what: str) -> str:
        """The column that says which user or which item a row is of."""
        return self.with_role(f"{what}_id") or ""

    @property
    def time(self) -> str:
        return self.with_role("time") or ""

    @property
    def stage_1_command(self) -> str:
        """What makes its tables, for messages."""
        return "`python create_parquet_dataset.py" + ("`" if self.is_hm else f" --project {self.folder}`")

    @property
    def stage_2_command(self) -> str:
        """What makes its data set, for messages."""
        return f"`cd {'dbt' if self.is_hm else self.folder} && dbt run`"

    @property
    def is_hm(self) -> bool:
        return Path(self.project) == HM

    @property
    def folder(self) -> str:
        """The project, as seen from here."""
        return os.path.relpath(self.project)

    @property
    def schema(self) -> pa.Schema:
        """Of filtered_dataframe and of the tables."""
        return arrow_schema(self.columns)

    @property
    def item_schema(self) -> pa.Schema:
        """Of the item table; without fields when the shop has none."""
        return arrow_schema(self.item_columns)

    def table(self, holds: str) -> RawTable | None:
        """The raw table of the purchases, items or users."""
        return next((table for table in self.tables if table.holds == holds), None)

    @property
    def purchases(self) -> RawTable:
        return next(table for table in self.tables if table.holds == "purchases")


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    return pa.schema([(column.name, ARROW_TYPES[column.data_type]) for column in columns])


def read_shop(project: str | Path = HM) -> Shop:
    """The shop of the dbt project in the folder `project`."""
    folder = Path(project).resolve()
    if not (folder / "dbt_project.yml").is_file():
        raise PrepError(
            f"{folder} is no dbt project (it has no dbt_project.yml): --project names one, such as"
            " shops/complete_journey."
        )
    variables = read_yaml(folder / "dbt_project.yml").get("vars") or {}
    if missing := [name for name in VARS if name not in variables]:
        raise PrepError(f"{folder / 'dbt_project.yml'} lacks {', '.join(missing)} under vars: each shop has its own.")
    sources, models = [], []
    for path in sorted((folder / "models").rglob("*.yml")):
        content = read_yaml(path)
        sources += [table for source in content.get("sources", []) for table in source.get("tables", [])]
        models += content.get("models", [])
    by_content = {meta_of(model).get("holds"): model for model in models}
    published, items = by_content.get("purchases"), by_content.get("items")
    if published is None:
        raise PrepError(
            f"no model of {folder} has `holds: purchases` in its config.meta: the flow must know which to read."
        )
    try:
        shop = Shop(
            project=str(folder),
            data_dir=str((folder / str(variables["data_dir"])).resolve()),
            training_end_date=str(variables["training_end_date"]),
            validation_end_date=str(variables["validation_end_date"]),
            tables=tuple(raw_table(table) for table in sources),
            columns=tuple(published_column(column) for column in published.get("columns", [])),
            grain=tuple(meta_of(published).get("grain", [])),
            item_columns=tuple(published_column(column, of="item") for column in (items or {}).get("columns", [])),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise PrepError(
            f"the YAML of {folder} is not as docs/your-own-shop.md tells: {place}: {first['msg']}."
        ) from None
    check_shop(shop)
    return shop


def check_shop(shop: Shop) -> None:
    """Refuse what the stages could not work with."""

    def need(column: str | None, columns: list[str], what: str) -> None:
        if column not in columns:
            raise PrepError(
                f"the YAML of {shop.project}: {what} must be a column of its table, and {column!r} is none."
            )

    for role in ROLES:
        need(shop.with_role(role), shop.names, f"the role {role} of the model that holds the purchases")
    for name in shop.grain or [None]:
        need(name, shop.names, "each part of the grain of that model")
    if [table.holds for table in shop.tables].count("purchases") != 1:
        raise PrepError(f"the YAML of {shop.project}: one source table, and only one, must have `holds: purchases`.")
    for table in shop.tables:
        names = [column.name for column in table.columns]
        if table.holds == "purchases":
            need(table.user, names, f"user of {table.name}")
            need(table.item, names, f"item of {table.name}")
        elif table.holds != "other":
            need(table.key, names, f"key of {table.name}")


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PrepError(f"{path} cannot be read as YAML ({' '.join(str(error).split())[:200]}): mend it.") from None
    return content if isinstance(content, dict) else {}


def meta_of(entry: dict[str, Any]) -> dict[str, Any]:
    return (entry.get("config") or {}).get("meta") or {}


def data_type(column: dict[str, Any]) -> str:
    """The column's type for DuckDB: the YAML may hold Jinja that asks for the engine."""
    text = str(column.get("data_type", "varchar"))
    return JINJA.from_string(text).render(target={"type": "duckdb"}).strip().lower() if "{" in text else text.lower()


def raw_table(table: dict[str, Any]) -> RawTable:
    meta = meta_of(table)
    known = {name: meta.get(name) for name in ("key", "user", "item")}
    known |= {"name": table.get("name"), "holds": meta.get("holds", "other")}
    known |= {"unknown": meta.get("unknown", "left_out")}
    return RawTable.model_validate(known | {"columns": [raw_column(column) for column in table.get("columns", [])]})


def raw_column(column: dict[str, Any]) -> RawColumn:
    known = {"pattern": None, "called": f"as {column.get('name')} must be", "optional": False} | meta_of(column)
    known |= {"name": column.get("name"), "data_type": data_type(column)}
    known |= {"not_null": any(rule.get("type") == "not_null" for rule in column.get("constraints", []))}
    return RawColumn.model_validate(known)


def published_column(column: dict[str, Any], of: str = "purchase") -> Column:
    known = {"of": of, "role": None, "precision": "second", "drift": False} | meta_of(column)
    return Column.model_validate(known | {"name": column.get("name"), "data_type": data_type(column)})
