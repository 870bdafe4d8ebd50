"""A two-tower model on the tables of a run: trained on train, scored on test beside what is popular.

    python notebooks/two_towers.py FOLDER

FOLDER is the one that holds `.metaflow`. One tower turns a user and what is known of her into a vector, the
other an item and its description; their product is the score. Each purchase in a batch is a positive, and the
items of the others are its negatives, unless the user has bought them too. Needs PyTorch.

Source of the correction for popular items, which are negatives more often than others: Yi et al.,
Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, RecSys 2019.
"""

import sys
from pathlib import Path

import metaflow
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy.sparse import csr_matrix
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from popularity import ITEMS, best_sellers, map_at_12

SIZE, BATCH, EPOCHS, RATE = 64, 1024, 2, 0.01


def codes(column: pa.ChunkedArray, known: pa.Array) -> np.ndarray:
    """The place of each value among the known ones, from 1 on; 0 for others."""
    return pc.add(pc.fill_null(pc.index_in(column, value_set=known), -1), 1).to_numpy()


def describe(train: pa.Table, key: str, known: pa.Array, columns: list[str]) -> tuple[torch.Tensor, int]:
    """Whole numbers [ids + 1, columns + 1] for an embedding: the id itself, and each value of its text columns."""
    first = pc.index_in(known, value_set=train[key].combine_chunks())  # a row of train that describes the id
    parts, offset = [np.arange(len(known) + 1)], len(known) + 1
    for name in columns:
        values = pc.unique(train[name].combine_chunks())
        parts.append(np.concatenate([[0], codes(pa.chunked_array([train[name].take(first).combine_chunks()]), values)]))
        parts[-1] += offset
        offset += len(values) + 1
    return torch.from_numpy(np.stack(parts, axis=1)), offset


class Tower(nn.Module):
    """The sum of the embeddings of an id and of what describes it, through one layer."""

    def __init__(self, features: torch.Tensor, values: int) -> None:
        super().__init__()
        self.features = features
        self.embed = nn.EmbeddingBag(values, SIZE, mode="sum", sparse=True)
        nn.init.normal_(self.embed.weight, std=0.1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embed(self.features[ids])


def train_towers(users: Tower, items: Tower, user: np.ndarray, item: np.ndarray) -> None:
    """Fit both towers to the purchases, (user, item) as numbers from 1 on."""
    bought = csr_matrix((np.ones(len(item), dtype=np.float32), (user, item)))
    share = torch.from_numpy(np.log(np.bincount(item).clip(1) / len(item))).float()
    optimizer = torch.optim.SparseAdam([*users.parameters(), *items.parameters()], lr=RATE)
    generator = np.random.default_rng(0)
    for epoch in range(EPOCHS):
        losses = []
        for batch in np.array_split(generator.permutation(len(item)), len(item) // BATCH + 1):
            u, i = user[batch].astype(np.int64), item[batch].astype(np.int64)
            own = bought[u][:, i].toarray() > 0  # what a user has bought is no negative of hers
            np.fill_diagonal(own, False)
            score = users(torch.from_numpy(u)) @ items(torch.from_numpy(i)).T - share[i]
            score = score.masked_fill(torch.from_numpy(own), -torch.inf)
            loss = nn.functional.cross_entropy(score, torch.arange(len(batch)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {np.mean(losses):.3f}", flush=True)


def main(folder: str) -> None:
    torch.manual_seed(0)
    metaflow.namespace(None)
    metaflow.metadata(f"local@{folder}")
    data = metaflow.Flow("DataPrepFlow").latest_successful_run.data
    columns = data.shop["columns"]
    role = {column["role"]: column["name"] for column in columns}
    train, test, vocabulary = data.label_to_dataset["train"], data.test, data.vocabulary
    towers, numbers = [], []
    for what in ("user", "item"):
        key = role[f"{what}_id"]
        text = [
            one["name"] for one in columns if one["of"] == what and one["data_type"] == "varchar" and one["name"] != key
        ]
        towers.append(Tower(*describe(train, key, vocabulary[key], text)))
        numbers.append(codes(train[key], vocabulary[key]))
    train_towers(*towers, *numbers)

    user, item = role["user_id"], role["item_id"]
    buyers = pc.unique(test[user].combine_chunks())
    with torch.no_grad():
        every = towers[1](torch.arange(1, len(vocabulary[item]) + 1))
        found = [
            (towers[0](torch.from_numpy(part.astype(np.int64))) @ every.T).topk(ITEMS).indices
            for part in np.array_split(codes(pa.chunked_array([buyers]), vocabulary[user]), len(buyers) // 256 + 1)
        ]
    offered = vocabulary[item].take(pa.array(torch.cat(found).numpy().ravel())).to_pylist()
    lists = {one: offered[ITEMS * n : ITEMS * (n + 1)] for n, one in enumerate(buyers.to_pylist())}
    best = best_sellers(train, item, role["time"])
    print(f"MAP@12 on test: two towers {map_at_12(lists, test, user, item):.4f}", end=", ")
    print(f"the best sellers of the last week {map_at_12(dict.fromkeys(lists, best), test, user, item):.4f}")


if __name__ == "__main__":
    main(sys.argv[1])
