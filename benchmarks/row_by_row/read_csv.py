"""Stage 1, row by row: read_csv.py FOLDER_OF_CSV_FILES OUT_FOLDER [FRACTION]."""

import argparse
import random
from pathlib import Path

import pandas as pd


def main(argv=None):
    """Write articles, customers and transactions_train to OUT_FOLDER."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("fraction", type=float, nargs="?", default=1.0)
    arguments = parser.parse_args(argv)
    for name, skip in (
        ("articles", None),
        ("customers", None),
        ("transactions_train", lambda line: line > 0 and random.random() >= arguments.fraction),
    ):
        # keep_default_na: fashion_news_frequency has a text None, which is not null
        table = pd.read_csv(
            arguments.source / f"{name}.csv",
            skiprows=skip,
            keep_default_na=False,
            na_values=[""],
            dtype={"article_id": str, "product_code": str},
        )
        table.to_parquet(arguments.out / name)


if __name__ == "__main__":
    main()
