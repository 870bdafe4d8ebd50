"""Dense ids for models: position + 1 in a fixed order of the ids that train knows, 0 for unknown."""


def fit(con):
    """The ids of train, sorted, as they stand in the CSV files; after summarize().

    Returns {'customer_id': pyarrow.Array, 'article_id': pyarrow.Array} of text. Nothing of valid and
    test is in it. From id to number and back, with pyarrow alone:

        position = pc.index_in(table["customer_id"], value_set=vocabulary["customer_id"])
        number = pc.add(pc.fill_null(position, -1), 1)
        customer_id = vocabulary["customer_id"].take(pc.subtract(number, 1))

    article_id is a whole number in the tables: cast the vocabulary to int64 for the first line.
    """
    queries = {
        "customer_id": "select customer_id from train_customers order by customer_id",
        "article_id": "select printf('%010d', article_id) from train_articles order by article_id",
    }
    return {key: con.sql(query).to_arrow_table().column(0).combine_chunks() for key, query in queries.items()}
