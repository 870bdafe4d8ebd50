"""The same job with Polars (lazy, streaming): with_polars.py FOLDER_OF_CSV_FILES OUT_FOLDER."""

import argparse
from pathlib import Path

import expected
import polars as pl


def main(argv=None):
    """Write filtered_dataframe.parquet and train, valid and test.parquet to a new folder in OUT_FOLDER."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    paths = parser.parse_args(argv)
    out = expected.new_version(paths.out)

    purchases = pl.scan_csv(
        paths.source / "transactions_train.csv",
        schema_overrides={
            "t_dat": pl.Date,
            "article_id": pl.Int64,
            "price": pl.Float64,
            "sales_channel_id": pl.Int64,
        },
    ).with_columns(pl.col("t_dat").cast(pl.Datetime("us")))
    articles = pl.scan_csv(
        paths.source / "articles.csv",
        schema_overrides=dict.fromkeys(expected.ARTICLE_NUMBERS, pl.Int64),
    ).select(expected.ARTICLE_COLUMNS)
    flags = dict.fromkeys(("FN", "Active", "age"), pl.Float64)
    customers = pl.scan_csv(paths.source / "customers.csv", schema_overrides=flags).with_columns(
        active=pl.col("Active").fill_null(0.0), fn=pl.col("FN").fill_null(0.0)
    )

    lines = (
        purchases.join(articles, on="article_id", how="semi")
        .join(customers, on="customer_id", how="semi")
        .group_by(expected.LINE)
        .agg(pl.len().cast(pl.Int64).alias("quantity"))
    )
    frequent = (
        lines.filter(pl.col("t_dat") < expected.TRAINING_END)
        .group_by("customer_id")
        .len()
        .filter(pl.col("len") >= expected.MIN_INTERACTIONS)
    )
    # Sorted while the rows are narrow, in joins that keep that order: 1.5 GB instead of 2.1 at 0.1.
    result = (
        lines.join(frequent, on="customer_id", how="semi")
        .sort(expected.LINE)
        .join(articles, on="article_id", maintain_order="left")
        .join(customers, on="customer_id", maintain_order="left")
        .select(expected.COLUMNS)
    )
    result.sink_parquet(out / "filtered_dataframe.parquet")

    result = pl.scan_parquet(out / "filtered_dataframe.parquet")
    for split, (start, end) in expected.SPLITS.items():
        days = pl.col("t_dat").is_between(start, end, closed="left")
        result.filter(days).sink_parquet(out / f"{split}.parquet")


if __name__ == "__main__":
    main()
