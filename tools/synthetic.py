"""Make H&M-like CSV files of any size: articles.csv, customers.csv, transactions_train.csv.

They have the form and the quirks of the files of Kaggle's H&M competition; every product, customer
and purchase is invented. Same scale and seed: same bytes (with the same numpy and DuckDB).
"""

import argparse
import hashlib
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

FILES = ("articles.csv", "customers.csv", "transactions_train.csv")
MARKER = ".synthetic.json"  # says which files are ours, so that no other is ever overwritten

# Published figures of the H&M data set, here as parts of the whole: they hold at every scale.
ARTICLES, CUSTOMERS, PURCHASES = 105_542, 1_371_980, 31_788_324
FIRST_DAY, DAYS = np.datetime64("2018-09-20"), 734
# Purchases on the busiest day, in the last two weeks, on the quietest day (its date is a guess).
FIXED_DAYS = (
    ("2019-09-28", 1, 198_622 / PURCHASES),
    ("2020-09-08", 7, 265_603 / PURCHASES),
    ("2020-09-15", 8, 266_364 / PURCHASES),
    ("2019-12-25", 1, 12_760 / PURCHASES),
)
CHANNEL_2, REPEATED_ROWS = 0.704, 2_974_905 / PURCHASES
PRICE_UNIT, LARGEST_PRICE = 59_000, 34_900  # every price is k / 59000, the largest 0.5915
NEVER_BUY, AGE_NULL, SHARED_POSTAL_CODE = (n / CUSTOMERS for n in (9_699, 15_861, 120_303))
FN, ACTIVE = 1 - 895_050 / CUSTOMERS, 1 - 907_576 / CUSTOMERS
REGULARLY, MONTHLY, NEWS_NULL = (n / CUSTOMERS for n in (477_416, 842, 16_009))
PRE_CREATE, LEFT_CLUB, CLUB_NULL = (n / CUSTOMERS for n in (92_960, 467, 6_062))
POSTAL_CODES = 370_000 / CUSTOMERS  # of which about 352,899 have a customer
NEVER_SOLD, NO_DESCRIPTION = 995 / ARTICLES, 416 / ARTICLES
COMMAS, QUOTES, NON_ASCII = 75_213 / ARTICLES, 11 / ARTICLES, 8_104 / ARTICLES
NO_TYPE, NO_LOOK, NO_COLOUR, NO_MASTER = (n / ARTICLES for n in (121, 52, 28, 685))

# Tails, as (shares, values) of the quantile function, fitted to the published quartiles and maxima:
# age; days with a purchase per customer; rows per basket (one customer, one day); purchases per
# article in its whole life; articles per product.
AGE = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999, 1), (16, 20, 24, 32.6, 49, 57, 84, 100)
BUYING_DAYS = (0, 0.33, 0.49, 0.75, 0.9, 0.99, 0.999, 1), (1, 2, 3, 8.3, 15, 43, 80, 480)
BASKET = (0, 0.28, 0.52, 0.67, 0.77, 0.91, 0.99, 0.999, 1), (1, 2, 3, 4, 4.8, 7.5, 18, 30, 62)
SALES = (0, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1), (3, 17, 70, 300, 900, 3600, 12000, 70000)
VARIANTS = (0, 0.53, 0.75, 0.9, 0.99, 1), (1, 2, 3, 5, 14, 76)
# Our own choice: this part of the rows comes from a few favourite departments of the customer.
TASTE, FAVOURITES = 0.75, 4
WEEK = (1.05, 1.04, 1.05, 0.95, 0.94, 0.86, 1.08)  # from the first day, a Thursday

INDEXES = (  # index_code, index_name, index_group_no, index_group_name
    ("A", "Ladieswear", "1", "Ladieswear"),
    ("B", "Lingerie & Tights", "1", "Ladieswear"),
    ("C", "Ladies Shoes, Bags", "1", "Ladieswear"),
    ("D", "Young Fashion", "2", "Young"),
    ("F", "Menswear", "3", "Menswear"),
    ("G", "Baby 50-98", "4", "Children"),
    ("H", "Kids 92-140", "4", "Children"),
    ("I", "Teens 134-170", "4", "Children"),
    ("J", "Kids Shoes, Socks", "4", "Children"),
    ("S", "Sport", "26", "Sport"),
)
INDEX_SHARES = (0.26, 0.08, 0.05, 0.14, 0.12, 0.09, 0.11, 0.08, 0.03, 0.04)
SECTIONS = [
    (str(11 + 2 * i + j), f"{index[3]} {part}")
    for i, index in enumerate(INDEXES)
    for j, part in enumerate(("Everyday", "Holiday, Party"))
]
# product_group_name, garment_group_no, garment_group_name; product types. Hat has two numbers: a
# number and its name are not always 1:1.
TYPES = [
    (str(250 + 5 * i + j), name, *group)
    for i, (*group, names) in enumerate(
        (
            ("Garment Upper body", "1005", "Jersey", "Top T-shirt Hoodie Vest"),
            ("Garment Upper body", "1003", "Knitwear", "Sweater Cardigan"),
            ("Garment Upper body", "1007", "Outdoor", "Jacket Coat"),
            ("Garment Full body", "1013", "Dresses", "Dress Jumpsuit"),
            ("Garment Lower body", "1009", "Trousers", "Trousers Shorts"),
            ("Underwear", "1017", "Under-, Nightwear", "Briefs Bra"),
            ("Socks & Tights", "1021", "Socks and Tights", "Socks Tights"),
            ("Shoes", "1020", "Shoes", "Sneakers"),
            ("Accessories", "1019", "Accessories", "Bag Hat Hat"),
        )
    )
    for j, name in enumerate(names.split())
]
LOOKS = (
    ("1010016", "Solid"),
    ("1010001", "All over pattern"),
    ("1010017", "Stripe"),
    ("1010010", "Melange"),
    ("1010004", "Check"),
    ("-1", "Unknown"),
)
COLOURS = (
    ("09", "Black"),
    ("73", "Dark Blue"),
    ("10", "White"),
    ("51", "Light Pink"),
    ("07", "Grey"),
    ("42", "Red"),
    ("19", "Dark Green"),
    ("-1", "Unknown"),
)
MASTERS = (
    ("5", "Black"),
    ("2", "Blue"),
    ("9", "White"),
    ("4", "Pink"),
    ("12", "Grey"),
    ("18", "Red"),
    ("19", "Green"),
    ("-1", "Unknown"),
)
TONES = (("4", "Dark"), ("1", "Dusty Light"), ("3", "Light"), ("5", "Bright"), ("-1", "Unknown"))
NAMES = ("Alva", "Bo", "Cleo", "Dune", "Fjord", "Gala", "Hazel", "Juno", "Lark", "Moss", "Nova")
FABRICS = ("soft cotton", "ribbed jersey", "airy linen", "washed twill", "a wool blend")
ACCENTED = ("bouclé", "crêpe", "cotton piqué", "jersey with an appliqué", "façonné")
DETAILS = ("long sleeves", "a round neckline", "side pockets", "a wide hem", "covered buttons")


class InputError(Exception):
    """One sentence for the user: what is wrong, and the cure."""


def deal(rng, n, shares):
    """Deal n places: in random order 0, 1, 2, ... as often as shares say, len(shares) to the rest.

    The counts are exact, and at least one each, so that every quirk is there at every scale.
    """
    counts = [max(1, round(n * share)) for share in shares]
    return rng.permutation(np.repeat(np.arange(len(shares) + 1), [*counts, n - sum(counts)]))


def pick(rng, n, share):
    """Boolean [n]: this share of the places, at least one."""
    return deal(rng, n, [share]) == 0


def draw(rng, n, tail):
    """Whole numbers [n] in random order, evenly spread over the quantiles of tail."""
    rank = (rng.permutation(n) + rng.random(n)) / n
    return np.exp(np.interp(rank, tail[0], np.log(tail[1]))).astype(int)


def hex_texts(rng, n):
    """Arrow text [n], 64 hex characters each."""
    return pa.array(np.frombuffer(rng.bytes(32 * n).hex().encode(), "S64")).cast(pa.string())


def take(texts, position):
    """Arrow text: texts[position], None is null."""
    return pa.array(texts, pa.string()).take(pa.array(position))


def make_articles(rng, scale):
    """The table of articles.csv, and the arrays that make_purchases needs, in a dict.

    The assortment shrinks with the square root of scale, not below 500: so each article keeps
    enough buyers at small scales for tails and tastes to show.
    """
    n = max(500, round(ARTICLES * math.sqrt(scale)))
    product = np.repeat(np.arange(n), draw(rng, n, VARIANTS))[:n]  # of each article
    products = product[-1] + 1
    code = np.sort(rng.choice(np.arange(108_775, 959_462), products, replace=False))[product]
    variant = np.arange(n) - np.searchsorted(product, product) + 1

    # A department is one product type of one index, number % 10; at small scales not all exist.
    departments = 10 * int(np.clip(n // 400, 3, len(TYPES)))
    index = rng.choice(10, products, p=INDEX_SHARES)[product]
    department = index + 10 * rng.integers(0, departments // 10, products)[product]
    type_of = [(d // 10 + 7 * d) % len(TYPES) for d in range(departments)]
    kind = np.take(type_of, department)
    accented, comma, quote = (pick(rng, products, p)[product] for p in (NON_ASCII, COMMAS, QUOTES))
    described, no_colour = ~pick(rng, n, NO_DESCRIPTION), pick(rng, n, NO_COLOUR)
    look, colour = np.minimum(rng.geometric(0.4, (2, n)) - 1, [[len(LOOKS) - 2], [len(COLOURS) - 2]])
    columns = {
        "article_id": [f"{c:07d}{v:03d}" for c, v in zip(code, variant, strict=True)],
        "product_code": [f"{c:07d}" for c in code],
        "prod_name": [f"{NAMES[p % 11]} {TYPES[kind[i]][1]}" for i, p in enumerate(product)],
    }
    for names, texts, row, unknown in (
        (
            "product_type_no product_type_name product_group_name",
            [*(row[:3] for row in TYPES), ("-1", "Unknown", "Unknown")],
            kind,
            pick(rng, n, NO_TYPE),
        ),
        ("graphical_appearance_no graphical_appearance_name", LOOKS, look, pick(rng, n, NO_LOOK)),
        ("colour_group_code colour_group_name", COLOURS, colour, no_colour),
        ("perceived_colour_value_id perceived_colour_value_name", TONES, rng.integers(0, len(TONES) - 1, n), no_colour),
        (
            "perceived_colour_master_id perceived_colour_master_name",
            MASTERS,
            colour,
            no_colour | pick(rng, n, NO_MASTER - NO_COLOUR),
        ),
        (
            "department_no department_name",
            [(str(1201 + 17 * d), TYPES[k][1]) for d, k in enumerate(type_of)],
            department,
            False,
        ),
        ("index_code index_name index_group_no index_group_name", INDEXES, index, False),
        ("section_no section_name", SECTIONS, 2 * index + product % 2, False),
        ("garment_group_no garment_group_name", [row[3:] for row in TYPES], kind, False),
    ):
        row = np.where(unknown, len(texts) - 1, row)  # the last one is Unknown
        for column, values in zip(names.split(), zip(*texts, strict=True), strict=True):
            columns[column] = take(values, row)
    columns["detail_desc"] = [
        f"{TYPES[kind[i]][1]} in {(ACCENTED if accented[i] else FABRICS)[p % 5]}"
        + (f", {DETAILS[p // 5 % 5]}" if comma[i] else "")
        + f" and {DETAILS[p // 25 % 5]}"
        + (' with the text "HELLO SUN".' if quote[i] else ".")
        if described[i]
        else None
        for i, p in enumerate(product)
    ]

    # Newer articles have higher numbers; those of the last weeks are bought only there. Sales decay
    # from the launch on, slowly for the articles that sell much.
    launch = (product + rng.random(n)) / products * (DAYS + 365) - 365  # day, 0 is the first
    sales = draw(rng, n, SALES)
    lifetime = 6 * np.sqrt(sales) * np.exp(rng.normal(0, 0.6, n))
    weight = sales / lifetime / np.exp(np.minimum(launch, 0) / lifetime)
    price = np.exp(rng.normal(7.27, 0.65, products))[product] // 100 * 100 + 99
    return pa.table(columns), {
        "department": department,
        "launch": launch,
        "lifetime": lifetime,
        "weight": weight * ~pick(rng, n, NEVER_SOLD),
        "price": np.minimum(price, LARGEST_PRICE),
    }


def make_customers(rng, scale):
    """The table of customers.csv, at least 100 rows."""
    n = max(100, round(CUSTOMERS * scale))
    reader = deal(rng, n, [ACTIVE, FN - ACTIVE, REGULARLY - FN, MONTHLY, NEWS_NULL, 2 / n])
    club = deal(rng, n, [PRE_CREATE, LEFT_CLUB, CLUB_NULL])
    codes = round(POSTAL_CODES * n)
    # The power makes the tail: the largest code but the shared one has some 250 customers.
    code = np.where(pick(rng, n, SHARED_POSTAL_CODE), 0, 1 + codes * rng.random(n) ** 1.5)
    return pa.table(
        {
            "customer_id": hex_texts(rng, n).sort(),
            "FN": take(["1.0"] * 2 + [None] * 5, reader),
            "Active": take(["1.0"] + [None] * 6, reader),
            "club_member_status": take(["PRE-CREATE", "LEFT CLUB", None, "ACTIVE"], club),
            "fashion_news_frequency": take(  # None the text: always two of them
                ["Regularly"] * 3 + ["Monthly", None, "None", "NONE"], reader
            ),
            "age": pa.array(draw(rng, n, AGE), mask=pick(rng, n, AGE_NULL)),
            "postal_code": take(hex_texts(rng, codes + 1), code.astype(int)),
        }
    )


def daily_shares(rng):
    """Share of the purchases that falls on each day [DAYS]: year, week, chance, campaigns."""
    share = 1 + 0.27 * np.cos(2 * np.pi * (np.arange(DAYS) - 275) / 365.25)  # most in late June
    share *= np.resize(WEEK, DAYS) * np.exp(rng.normal(0, 0.12, DAYS))
    share[rng.choice(DAYS, 12, replace=False)] *= 2.2
    fixed = np.zeros(DAYS, bool)
    for first, days, total in FIXED_DAYS:
        start = (np.datetime64(first) - FIRST_DAY).astype(int)
        share[start : start + days] *= total / share[start : start + days].sum()
        fixed[start : start + days] = True
    share[~fixed] *= (1 - share[fixed].sum()) / share[~fixed].sum()
    return share


def plan_baskets(rng, customers, purchases):
    """Arrays customer, day, rows of all baskets (one customer, one day), by day and customer."""
    days = draw(rng, customers, BUYING_DAYS) * ~pick(rng, customers, NEVER_BUY)
    customer = np.repeat(np.arange(customers, dtype=np.int32), days)
    n = len(customer)
    # Customers begin at any time, most of the frequent ones at once. Only the order of the moments
    # counts: the daily shares say how many baskets fall on a day.
    moment = np.repeat(rng.random(customers) ** (8 * np.maximum(days, 1)), days)
    moment += (1 - moment) * rng.random(n)
    share = np.cumsum(daily_shares(rng))
    per_day = np.diff(np.rint(share / share[-1] * n).astype(int), prepend=0)
    while per_day.min() == 0:  # at small scales; no day stays without a purchase
        per_day[[per_day.argmin(), per_day.argmax()]] += [1, -1]
    day = np.empty(n, np.int16)
    day[np.argsort(moment)] = np.repeat(np.arange(DAYS), per_day)
    rows = draw(rng, n, BASKET)
    surplus = rows.sum() - purchases  # small: the number of purchases becomes exact
    rows[rng.choice(np.flatnonzero(rows > 1), abs(surplus), replace=False)] -= np.sign(surplus)
    order = np.argsort(day, kind="stable")  # the customers are in order already
    return customer[order], day[order], rows[order]


def plan_without_baskets(rng, customers, purchases):
    """The same with one row in each, of any customer on any day: nothing repeats that a compressor could find."""
    day = np.sort(rng.integers(0, DAYS, purchases).astype(np.int16))
    return rng.integers(0, customers, purchases, dtype=np.int32), day, np.ones(purchases, np.int64)


def make_purchases(rng, baskets, customer_id, article_id, articles):
    """Yield the record batches of transactions_train.csv, one a day.

    What a row buys is drawn by the popularity that the articles have on that day: from all of them
    or, with the chance TASTE, from those of one of the customer's favourite departments.
    """
    customer, day, rows = baskets
    begin = np.searchsorted(day, np.arange(DAYS + 1))
    shelf = np.argsort(articles["department"], kind="stable")  # article numbers, by department
    department, launch, lifetime, weight = (
        articles[name][shelf] for name in ("department", "launch", "lifetime", "weight")
    )
    edges = np.searchsorted(department, np.arange(10 * len(TYPES) + 1))
    favourites = (
        10 * rng.integers(0, department[-1] // 10 + 1, (len(customer_id), FAVOURITES))
        + rng.choice(10, (len(customer_id), 1), p=INDEX_SHARES)
    ).astype(np.uint8)
    prices = pa.array([repr(k / PRICE_UNIT) for k in range(LARGEST_PRICE + 1)])
    repeat = REPEATED_ROWS / max(1 - len(rows) / rows.sum(), 1e-9)  # the first row of a basket never does

    for today in range(DAYS):
        age = today - launch
        popularity = weight * np.exp(-np.maximum(age, 0) / lifetime) * (age >= 0)
        up_to = np.concatenate([[0], np.cumsum(popularity)])
        buyer = customer[begin[today] : begin[today + 1]]
        basket = np.repeat(np.arange(len(buyer)), rows[begin[today] : begin[today + 1]])
        n = len(basket)
        # The square of a random number is mostly small: the first favourite counts most.
        favourite = favourites[buyer[basket], (FAVOURITES * rng.random(n) ** 2).astype(int)]
        low, high = up_to[edges[favourite]], up_to[edges[favourite + 1]]
        anything = (rng.random(n) > TASTE) | (high - low < 1e-6 * up_to[-1])  # nothing there today
        low[anything], high[anything] = 0, up_to[-1]
        place = np.searchsorted(up_to[1:-1], low + (high - low) * rng.random(n), side="right")
        # Twice in a basket by chance: drawn again, from everything.
        again = np.ones(n, bool)
        again[np.unique(basket * len(shelf) + place, return_index=True)[1]] = False
        place[again] = np.searchsorted(up_to[1:-1], up_to[-1] * rng.random(again.sum()), "right")
        article = shelf[place]
        discount = rng.choice([1, 0.9, 0.8, 0.75, 0.5], n, p=[0.62, 0.14, 0.08, 0.08, 0.08])
        price = (articles["price"][article] * discount).astype(int)
        # Several units of one purchase: the row before once more.
        repeated = (rng.random(n) < repeat) & (np.diff(basket, prepend=-1) == 0)
        origin = np.maximum.accumulate(np.where(repeated, 0, np.arange(n)))
        channel = 1 + (rng.random(len(buyer)) < CHANNEL_2)[basket]
        yield pa.record_batch(
            {
                "t_dat": pa.array(np.full(n, FIRST_DAY + today)),
                "customer_id": customer_id.take(pa.array(buyer[basket])),
                "article_id": article_id.take(pa.array(article[origin])),
                "price": prices.take(pa.array(price[origin])),
                "sales_channel_id": pa.array(channel),
            }
        )


def show_progress(batches):
    """The batches; on a terminal one line says how far they are, once they take a second."""
    begun = time.monotonic()
    for day, batch in enumerate(batches, start=1):
        if sys.stderr.isatty() and time.monotonic() - begun > 1:
            line = f"{FILES[2]}: {100 * day // DAYS} %" if day < DAYS else "\033[K"  # erases it
            print(line, end="\r", file=sys.stderr, flush=True)
        yield batch


def sha256(path):
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_foreign_files(folder):
    """Raise InputError if the folder holds one of FILES, or its .gz, that is not as we left it."""
    marker, ours = folder / MARKER, {}
    try:
        if os.path.lexists(marker):
            made = json.loads(marker.read_bytes())["files"]
            ours = {file: facts["sha256"] for file, facts in made.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{marker} is not from synthetic.py: move it away or give another folder.") from None
    for path in (folder / (file + end) for file in FILES for end in ("", ".gz")):
        if os.path.lexists(path) and not (path.is_file() and path.name in ours and sha256(path) == ours[path.name]):
            raise InputError(
                f"{path} is not from synthetic.py, or was changed since: move it away or give another folder."
            )


def generate(out_dir, scale=0.001, seed=0, baskets=True):
    """Write the three files to the folder out_dir (made when missing); they appear by rename.

    Returns what the marker keeps: {file name: {"rows", "bytes", "sha256"}}. Raises InputError for a
    scale outside [0.0001, 10], a negative seed, and an out_dir that is no folder or holds files of
    these names (or with .gz) from elsewhere.
    """
    folder = Path(out_dir)
    if not 0.0001 <= scale <= 10:  # also nan; below, some days would have no purchase
        raise InputError(f"--scale must be from 0.0001 to 10, not {scale}.")
    if seed < 0:
        raise InputError(f"--seed must be 0 or more, not {seed}.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    refuse_foreign_files(folder)
    # A random stream for each file: a change to one leaves the others as they are.
    article_rng, customer_rng, rng = np.random.default_rng(seed).spawn(3)
    articles, for_purchases = make_articles(article_rng, scale)
    customers = make_customers(customer_rng, scale)
    purchases = round(PURCHASES * scale)
    plan = (plan_baskets if baskets else plan_without_baskets)(rng, len(customers), purchases)
    batches = make_purchases(
        rng, plan, customers["customer_id"].combine_chunks(), articles["article_id"].combine_chunks(), for_purchases
    )
    stream = pa.RecordBatchReader.from_batches(
        pa.schema(
            [
                ("t_dat", pa.date32()),
                ("customer_id", pa.string()),
                ("article_id", pa.string()),
                ("price", pa.string()),
                ("sales_channel_id", pa.int64()),
            ]
        ),
        show_progress(batches),
    )
    made = {}
    with (
        tempfile.TemporaryDirectory(prefix=".synthetic-", dir=folder) as name,
        duckdb.connect(config={"threads": 1}) as con,
    ):  # more threads: 2 GB more, no faster
        aside = Path(name)
        for file, source, rows in zip(
            FILES, (articles, customers, stream), (len(articles), len(customers), purchases), strict=True
        ):
            con.from_arrow(source).write_csv(str(aside / file), header=True)
            made[file] = {"rows": rows, "bytes": (aside / file).stat().st_size, "sha256": sha256(aside / file)}
        (aside / MARKER).write_text(
            json.dumps({"scale": scale, "seed": seed, "baskets": baskets, "files": made}, indent=1) + "\n"
        )
        for file in (*FILES, MARKER):
            (aside / file).replace(folder / file)
    return made


def main(argv=None):
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Make H&M-like data of any size: writes articles.csv, customers.csv and transactions_train.csv to
OUT_DIR. Every row is invented. The same scale and seed give the same bytes.""",
        epilog="""\
example: python synthetic.py my_data --scale 0.01

   scale   purchases  customers  articles     size  seconds  memory (2 cores)
   0.001      31,788      1,372     3,338   4.5 MB        1  0.2 GB
   0.01      317,883     13,720    10,554    39 MB        2  0.2 GB
   0.1     3,178,832    137,198    33,375   376 MB        5  0.3 GB
   1      31,788,324  1,371,980   105,542   3.7 GB       35  1 GB

The files appear together, by rename. The hidden file .synthetic.json remembers them: only files
that it knows, unchanged, are ever replaced.
""",
    )
    parser.add_argument(
        "out_dir", metavar="OUT_DIR", help="folder for the files; never overwrites files made elsewhere"
    )
    parser.add_argument(
        "--scale", type=float, default=0.001, metavar="S", help="1 is the size of H&M's data, default 0.001"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed gives other data of the same kind, default 0"
    )
    parser.add_argument(
        "--no-baskets",
        action="store_true",
        help="each purchase is of another customer and day: as hard to sort and to compress as data can be",
    )
    arguments = parser.parse_args(argv)
    try:
        made = generate(arguments.out_dir, arguments.scale, arguments.seed, not arguments.no_baskets)
    except (InputError, OSError, duckdb.Error) as error:
        print(error, file=sys.stderr)
        return 1
    for file, facts in made.items():
        print(f"{file:22} {facts['rows']:>12,} rows {facts['bytes']:>15,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
