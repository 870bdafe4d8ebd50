"""Open the tables of the latest run and print three rows of test.

    python notebooks/first_rows.py FOLDER

FOLDER is the one that holds `.metaflow`.
"""

import sys

import metaflow

metaflow.namespace(None)  # everybody's runs
metaflow.metadata(f"local@{sys.argv[1]}")
data = metaflow.Flow("DataPrepFlow").latest_successful_run.data
rows = data.test.slice(0, 3).to_pandas()[
    ["t_dat", "customer_id", "article_id", "product_group_name", "price", "quantity"]
]
print(rows.assign(customer_id=rows.customer_id.str[:8] + "...").to_string(index=False))
