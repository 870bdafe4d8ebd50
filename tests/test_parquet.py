import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prep.parquet import OutOfOrderError, in_order, write_parquet

TABLE = pa.table({"n": range(1_000), "text": [str(n % 7) for n in range(1_000)]})


@pytest.mark.parametrize("group_rows", [1, 99, 100, 300, 1_000, 5_000])
def test_ragged_batches_give_the_bytes_of_even_ones(tmp_path, group_rows):
    files = []
    for cuts in ([0, 1_000], [0, 0, 1, 100, 730, 731, 1_000, 1_000]):
        files.append(tmp_path / f"{len(files)}.parquet")
        pieces = [TABLE.slice(start, end - start) for start, end in itertools.pairwise(cuts)]
        batches = itertools.chain.from_iterable(piece.to_batches() for piece in pieces)
        written = write_parquet(files[-1], TABLE.schema, batches, group_rows, data_page_size=64)  # many pages
        assert written == 1_000
    assert files[0].read_bytes() == files[1].read_bytes()
    metadata = pq.read_metadata(files[0])
    sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    assert sizes == [group_rows] * (1_000 // group_rows) + ([1_000 % group_rows] if 1_000 % group_rows else [])
    assert pq.read_table(files[0]).equals(TABLE)


def test_rows_are_put_in_order_unless_too_many_would_wait():
    table = TABLE.append_column("place", pa.array([*range(500, 1_000), *range(500)]))
    cuts = [0, 500, 730, 1_000]
    batches = [table.slice(start, end - start).to_batches()[0] for start, end in itertools.pairwise(cuts)]
    ordered = pa.Table.from_batches(in_order(batches, "place"))
    assert ordered.equals(pa.concat_tables([TABLE.slice(500), TABLE.slice(0, 500)]))
    shuffled = table.take(pa.array([n * 7 % 1_000 for n in range(1_000)]))
    with pytest.raises(OutOfOrderError):
        list(in_order(shuffled.to_batches(), "place", most_waiting=100))


def test_no_batch_is_a_file_without_rows(tmp_path):
    assert write_parquet(tmp_path / "none.parquet", TABLE.schema, []) == 0
    assert pq.read_table(tmp_path / "none.parquet").equals(TABLE.slice(0, 0))
