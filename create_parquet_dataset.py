"""Stage 1: a shop's raw files become parquet files, with a sampled fraction of its purchases.

    python create_parquet_dataset.py 0.25

reads articles.csv, customers.csv and transactions_train.csv of the H&M data (or .csv.gz, .parquet) and
writes the parquet files articles, customers and transactions_train beside them, with a quarter of the
customers' purchases. The columns and their order stay those of the raw files. Another shop's files and
columns stand in the YAML of its dbt project: --project.
"""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from prep.errors import PrepError
from prep.ingest.tables import write_tables
from prep.shop import read_shop


def parse_fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text} is not in (0, 1]: 0.25 keeps a quarter of the customers, 1 keeps all."
        )
    return value


def parse_natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 40:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not a whole number from 0 on, of at most 40 digits.")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="create_parquet_dataset.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "fraction", metavar="FRACTION", nargs="?", type=parse_fraction, default=1.0,
        help="part of the data to keep, above 0 and up to 1 (default: 1, all of it)",
    )  # fmt: skip
    parser.add_argument(
        "--by", choices=("customer", "row"), default="customer",
        help="what the fraction counts: customers with their whole history (default), or single purchases",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=parse_natural, default=0,
        help="another seed, another sample; the same seed always the same one (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", type=Path,
        help="folder of the raw files and of the result (default: here; with --project, the shop's own)",
    )  # fmt: skip
    parser.add_argument("--project", type=Path, help="the shop's dbt project (default: dbt, H&M's)")
    parser.add_argument(
        "--memory-limit",
        help="memory for DuckDB before it spills to disk, such as 2GB (default: MEMORY_LIMIT, else 1GB)",
    )
    parser.add_argument(
        "--max-bad-rows", metavar="N", type=parse_natural, default=0,
        help="put up to N lines that break a rule aside in rejects.csv instead of stopping (default: 0)",
    )  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    interrupted = []

    def interrupt(*_: int | FrameType | None) -> None:
        interrupted.append(True)  # DuckDB may turn the exception into one of its own
        raise KeyboardInterrupt

    if argv is None:  # as a command
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it, as it ends cat
    made_with = {name: getattr(args, name) for name in ("fraction", "by", "seed", "max_bad_rows")}
    try:
        shop = read_shop(args.project) if args.project else read_shop()
        folder = args.data_dir or Path(shop.data_dir if args.project else ".")
        write_tables(shop, folder, made_with, args.memory_limit)
        if argv is None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done: Python's end is not to be told as a failure
    except BaseException as error:
        if interrupted:
            print("create_parquet_dataset.py: interrupted", file=sys.stderr)
            return 130
        if not isinstance(error, PrepError):
            raise
        print(f"create_parquet_dataset.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
