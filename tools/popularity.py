"""Recommend what sold best in the last week of train, and score it on test.

    python tools/popularity.py FOLDER

FOLDER is the one that holds `.metaflow`. The columns are found by their roles, so any shop's run will do.
MAP@12 as in Kaggle's H&M contest: the mean, over the users of test, of the average precision of twelve items.
"""

import datetime
import sys
from typing import Any

import metaflow
import pyarrow as pa
import pyarrow.compute as pc

ITEMS = 12


def best_sellers(train: pa.Table, item: str, time: str) -> list:
    """The items with the most lines in the last week of train, best first; the smaller id wins a tie."""
    last = pc.max(train[time]).as_py() - datetime.timedelta(days=7)
    week = train.filter(pc.greater(train[time], last))
    counts = week.group_by(item).aggregate([([], "count_all")])
    return counts.sort_by([("count_all", "descending"), (item, "ascending")])[item].to_pylist()[:ITEMS]


def map_at_12(recommended: dict[Any, list], test: pa.Table, user: str, item: str) -> float:
    """The mean average precision of the lists, {user: items}, for all users of test; 0.0 without users."""
    scores = []
    for row in test.group_by(user).aggregate([(item, "distinct")]).to_pylist():
        hits, precision, bought = 0, 0.0, set(row[f"{item}_distinct"])
        for place, one in enumerate(recommended[row[user]], start=1):
            if one in bought:
                hits += 1
                precision += hits / place
        scores.append(precision / min(len(bought), ITEMS))
    return sum(scores) / len(scores) if scores else 0.0


def main(folder: str) -> None:
    metaflow.namespace(None)
    metaflow.metadata(f"local@{folder}")
    data = metaflow.Flow("DataPrepFlow").latest_successful_run.data
    role = {column["role"]: column["name"] for column in data.shop["columns"]}
    best = best_sellers(data.label_to_dataset["train"], role["item_id"], role["time"])
    everybody = dict.fromkeys(data.test[role["user_id"]].to_pylist(), best)
    score = map_at_12(everybody, data.test, role["user_id"], role["item_id"])
    print(f"The {ITEMS} best sellers of the last week of train, recommended to all users of test: MAP@12 {score:.4f}")


if __name__ == "__main__":
    main(sys.argv[1])
