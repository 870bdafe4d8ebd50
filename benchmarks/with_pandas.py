"""The same job with pandas: with_pandas.py FOLDER_OF_CSV_FILES OUT_FOLDER."""

import argparse
from pathlib import Path

import expected
import pandas as pd


def read(path, columns, **options):
    """Read some columns of a CSV file; only an empty cell is null (the data has a text None)."""
    return pd.read_csv(path, usecols=columns, engine="pyarrow", keep_default_na=False, na_values=[""], **options)


def main(argv=None):
    """Write filtered_dataframe.parquet and train, valid and test.parquet to a new folder in OUT_FOLDER."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    paths = parser.parse_args(argv)
    out = expected.new_version(paths.out)

    articles = read(
        paths.source / "articles.csv",
        expected.ARTICLE_COLUMNS,
        dtype=dict.fromkeys(expected.ARTICLE_NUMBERS, "int64"),
    )
    customers = read(
        paths.source / "customers.csv",
        None,
        dtype=dict.fromkeys(("FN", "Active", "age"), "float64"),
    )
    customers["active"] = customers["Active"].fillna(0.0)
    customers["fn"] = customers["FN"].fillna(0.0)
    purchases = read(
        paths.source / "transactions_train.csv",
        expected.LINE,
        parse_dates=["t_dat"],
        dtype={"article_id": "int64"},
    )

    known = purchases["article_id"].isin(articles["article_id"]) & purchases["customer_id"].isin(
        customers["customer_id"]
    )
    lines = purchases[known].groupby(expected.LINE, as_index=False, sort=False).size()
    del purchases
    early = lines.loc[lines["t_dat"] < expected.TRAINING_END, "customer_id"].value_counts()
    frequent = early.index[early >= expected.MIN_INTERACTIONS]
    lines = lines[lines["customer_id"].isin(frequent)].rename(columns={"size": "quantity"})
    result = lines.sort_values(expected.LINE).merge(articles, on="article_id")
    result = result.merge(customers, on="customer_id")[expected.COLUMNS]
    result["t_dat"] = result["t_dat"].astype("datetime64[us]")
    result.to_parquet(out / "filtered_dataframe.parquet", index=False)

    for split, (start, end) in expected.SPLITS.items():
        days = result["t_dat"].between(start, end, inclusive="left")
        result[days].to_parquet(out / f"{split}.parquet", index=False)


if __name__ == "__main__":
    main()
