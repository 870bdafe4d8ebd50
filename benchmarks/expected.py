"""What every contender must make, and the check that it did: expected.py FOLDER CONTENDER...

Compares the pipeline's tables, as a reader gets them, with each contender's: the number of rows,
and hashes of all cells without and with the rows' order. Exit code 1 when a table differs.
"""

import argparse
import datetime
import sys
from pathlib import Path

TRAINING_END = datetime.datetime(2020, 9, 8)
VALIDATION_END = datetime.datetime(2020, 9, 15)
SPLITS = {  # from the first time up to the second, which is out
    "train": (datetime.datetime(2000, 1, 1), TRAINING_END),
    "valid": (TRAINING_END, VALIDATION_END),
    "test": (VALIDATION_END, datetime.datetime(3000, 1, 1)),
}
MIN_INTERACTIONS = 5

LINE = ["t_dat", "customer_id", "article_id", "sales_channel_id", "price"]  # also the row order
COLUMNS = [
    "article_id",
    "product_code",
    "product_type_no",
    "product_group_name",
    "graphical_appearance_no",
    "colour_group_code",
    "perceived_colour_value_id",
    "perceived_colour_master_id",
    "department_no",
    "index_code",
    "index_group_no",
    "section_no",
    "garment_group_no",
    "active",
    "fn",
    "age",
    "club_member_status",
    "customer_id",
    "fashion_news_frequency",
    "postal_code",
    "price",
    "sales_channel_id",
    "t_dat",
    "quantity",
]
ARTICLE_COLUMNS = COLUMNS[:13]
ARTICLE_TEXT = ["product_group_name", "index_code"]
ARTICLE_NUMBERS = [name for name in ARTICLE_COLUMNS if name not in ARTICLE_TEXT]
TEXT = [*ARTICLE_TEXT, "club_member_status", "customer_id", "fashion_news_frequency", "postal_code"]
FLOATS = ["active", "fn", "age", "price"]


def digest(con, table):
    """(rows, hash without order, hash with order) of one table with the columns COLUMNS.

    Text may be plain or dictionary-encoded. Prices are rounded to 12 digits: the reader of the
    row-by-row way (pandas' default) is off by the last bit.
    """
    if table.column_names != COLUMNS:
        return f"columns {table.column_names}"
    types = {"t_dat": "timestamp"} | dict.fromkeys(TEXT, "varchar") | dict.fromkeys(FLOATS, "double")
    row = ", ".join(
        f"round({name}, 12)" if name == "price" else f"cast({name} as {types.get(name, 'bigint')})" for name in COLUMNS
    )
    con.register("table_to_check", table)
    return con.execute(f"""
        select count(*), sum(cells), sum(hash(cells, place))
        from (select hash({row}) as cells, row_number() over () as place from table_to_check)
        """).fetchall()[0]


def new_version(folder):
    """A folder of its own in `folder` for what one run leaves; those of earlier runs stay."""
    version = folder / f"{datetime.datetime.now():%Y-%m-%dT%H-%M-%S-%f}"
    version.mkdir(parents=True)
    return version


def stored_tables(flow, home):
    """The three tables of the flow's latest run (in the folder `home`), through Metaflow's Client."""
    from metaflow import Flow, metadata, namespace

    namespace(None)
    metadata(f"local@{home}")
    return Flow(flow).latest_successful_run.data.label_to_dataset


def main(argv=None):
    """Run the command line; return the exit code."""
    import duckdb
    import pyarrow.parquet as pq

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER")
    arguments = parser.parse_args(argv)
    con = duckdb.connect()
    ours = {split: digest(con, table) for split, table in stored_tables("DataPrepFlow", arguments.folder).items()}
    differences = 0
    for contender in arguments.contenders:
        if contender == "first release":
            tables, compared = stored_tables("DataPrepFlow", arguments.folder / contender), 3
        elif contender == "row by row":
            tables, compared = stored_tables("RowByRowFlow", arguments.folder), 2  # its rows come in no order
        else:
            latest = max((arguments.folder / contender).iterdir())
            tables = {split: pq.read_table(latest / f"{split}.parquet") for split in SPLITS}
            compared = 3
        for split in SPLITS:
            theirs = digest(con, tables[split])
            if theirs[:compared] != ours[split][:compared]:
                differences += 1
                print(
                    f"expected.py: {split} of {contender} is {theirs}, of the pipeline "
                    f"{ours[split]} (rows, hash, hash with order).",
                    file=sys.stderr,
                )
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
