"""Dense ids for models: position + 1 in a fixed order of the ids that train knows, 0 for unknown."""

import duckdb
import pyarrow as pa

KEYS = ("customer_id", "article_id")


def fit(con: duckdb.DuckDBPyConnection) -> dict[str, pa.Array]:
    """The ids of train, sorted, exactly as the tables hold them; after summarize().

    Returns {'customer_id': pyarrow.Array of text, 'article_id': pyarrow.Array of whole numbers}.
    Nothing of valid and test is in it. From id to number and back, with pyarrow alone:

        position = pc.index_in(table["customer_id"], value_set=vocabulary["customer_id"])
        number = pc.add(pc.fill_null(position, -1), 1)
        customer_id = vocabulary["customer_id"].take(pc.subtract(number, 1))
    """
    queries = {key: f"select {key} from train_{key.removesuffix('_id')}s order by {key}" for key in KEYS}
    return {key: con.sql(query).to_arrow_table().column(0).combine_chunks() for key, query in queries.items()}
