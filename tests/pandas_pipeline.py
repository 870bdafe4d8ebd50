"""What the pipeline must make of the three CSV files, computed once more, in plain pandas.

Written from the published description of the data; imports nothing of the project and no DuckDB.
"""

import hashlib

import pandas as pd

ARTICLE_COLUMNS = [
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
]
ARTICLE_TEXTS = ["product_group_name", "index_code"]
CUSTOMER_COLUMNS = ["FN", "Active", "club_member_status", "fashion_news_frequency", "age", "customer_id", "postal_code"]
TRANSACTION_COLUMNS = ["t_dat", "customer_id", "article_id", "price", "sales_channel_id"]
COLUMNS = [
    *ARTICLE_COLUMNS,
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
ORDER = ["t_dat", "customer_id", "article_id", "sales_channel_id", "price"]


def read_csv(path):
    """The file as text, as it is in the CSV; only an empty cell is null."""
    return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])


def sample(transactions, fraction, by="customer", seed=0):
    """The rows of transactions (all text) that are kept.

    Kept is a row when the first 64 bits of the md5 of `seed:customer_id` (or, by row, of
    `seed:` and all five cells joined by `:`) are a number below fraction * 2**64.
    """
    columns = ["customer_id"] if by == "customer" else TRANSACTION_COLUMNS
    kept = [
        int(hashlib.md5(":".join((str(seed), *cells)).encode()).hexdigest()[:16], 16) < int(fraction * 2**64)
        for cells in transactions[columns].itertuples(index=False, name=None)
    ]
    return transactions[kept]


def purchase_lines(transactions):
    """One row per customer, article, day, price and channel; quantity is how often it was there."""
    typed = pd.DataFrame(
        {
            "t_dat": pd.to_datetime(transactions["t_dat"], format="%Y-%m-%d").astype("datetime64[us]"),
            "customer_id": transactions["customer_id"],
            "article_id": transactions["article_id"].astype("int64"),
            "price": transactions["price"].astype("float64"),
            "sales_channel_id": transactions["sales_channel_id"].astype("int64"),
        }
    )
    return typed.groupby(TRANSACTION_COLUMNS, as_index=False).size().rename(columns={"size": "quantity"})


def known_lines(articles, customers, transactions):
    """The purchase lines of the customers and articles that are in their files."""
    lines = purchase_lines(transactions)
    known = lines["article_id"].isin(articles["article_id"].astype("int64"))
    return lines[known & lines["customer_id"].isin(customers["customer_id"])]


def filtered_dataframe(articles, customers, transactions, min_interactions=5, training_end_date="2020-09-08"):
    """The wide table [lines, 24] of the three tables, all text as in the CSV files."""
    articles = articles[ARTICLE_COLUMNS].astype(
        {name: "int64" for name in ARTICLE_COLUMNS if name not in ARTICLE_TEXTS}
    )
    customers = customers[CUSTOMER_COLUMNS].rename(columns={"FN": "fn", "Active": "active"})
    customers = customers.astype({"fn": "float64", "active": "float64", "age": "float64"})
    customers = customers.fillna({"fn": 0.0, "active": 0.0})
    lines = purchase_lines(transactions).merge(articles, on="article_id").merge(customers, on="customer_id")
    before = lines.loc[lines["t_dat"] < pd.Timestamp(training_end_date), "customer_id"]
    counts = before.value_counts()
    stay = counts.index[counts >= min_interactions]
    return lines[lines["customer_id"].isin(stay)].sort_values(ORDER)[COLUMNS].reset_index(drop=True)


def split(filtered, training_end_date="2020-09-08", validation_end_date="2020-09-15"):
    """train: days before the first date; valid: from it on, before the second; test: from that on.

    Returns {'train', 'valid', 'test': DataFrame}.
    """
    day, first, second = filtered["t_dat"], *map(pd.Timestamp, (training_end_date, validation_end_date))
    parts = {"train": day < first, "valid": (first <= day) & (day < second), "test": second <= day}
    return {label: filtered[rows].reset_index(drop=True) for label, rows in parts.items()}


def item_id_2_meta(filtered, articles):
    """{str(article_id): {article column: value}} for every article of the table, with its names and text."""
    names = [name for name in articles if name.endswith("_name") and name not in ARTICLE_COLUMNS] + ["detail_desc"]
    names = articles.assign(article_id=articles["article_id"].astype("int64"))[["article_id", *names]]
    described = filtered[ARTICLE_COLUMNS].drop_duplicates().merge(names, on="article_id")
    return {
        str(row["article_id"]): {name: None if pd.isna(cell) else cell for name, cell in row.items()}
        for row in described.to_dict("records")
    }
