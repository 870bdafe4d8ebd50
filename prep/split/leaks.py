"""The leak check: what no split of these tables may break, asked of the tables themselves."""

from collections.abc import Iterable

from prep.duck import identifier, identifiers
from prep.errors import PrepError
from prep.split.members import Members

NOT_ASKED = "not asked of a sample of the rows"


def rules(members: Members, min_lines: int) -> dict[str, str]:
    """{the rule in words: SQL that counts what breaks it}. A new rule is one more entry.

    `min_lines` is what each customer must have in train, 0 for a sample of the rows, of which that cannot be asked.
    """
    shop, (train, valid, test) = members.shop, members.splits
    time, grain = identifier(shop.time), identifiers(shop.grain)
    training_end, validation_end = f"{train.end:%Y-%m-%d}", f"{test.start:%Y-%m-%d}"
    in_train, in_valid, in_test = (f"(select {grain} from ({members.lines(split)}))" for split in members.splits)
    # A line in two splits has one time in both, so only those of the later one's days are looked for.
    valid_on, test_on = (
        f"{time} >= (select min({time}) from ({later}))"
        for later in (
            f"select {time} from {valid.scan()} union all select {time} from {test.scan()}",
            f"from {test.scan()}",
        )
    )
    breaches = {
        f"train ends before {training_end}": f"select count(*) from {train.scan()} where not ({train.holds(time)})",
        f"valid begins on {training_end} and ends before {validation_end}": (
            f"select count(*) from {valid.scan()} where not ({valid.holds(time)})"
        ),
        f"test begins on {validation_end}": f"select count(*) from {test.scan()} where not ({test.holds(time)})",
        "no purchase line is in two splits": (
            f"select (select count(*) from {in_train} semi join ({in_valid} union all {in_test}) using ({grain})"
            f" where {valid_on})"
            f" + (select count(*) from {in_valid} semi join {in_test} using ({grain}) where {test_on})"
        ),
    }
    if min_lines:
        breaches[f"every customer has at least {min_lines} lines in train"] = (
            f"select count(*) from users where train < {min_lines}"
        )
    return breaches


def check_for_leaks(members: Members, min_lines: int, item_columns: Iterable[str]) -> dict[str, str]:
    """{the rule in words: 'passed', 'broken by ...' or NOT_ASKED}."""
    verdict = {}
    for rule, query in rules(members, min_lines).items():
        ((count,),) = members.con.sql(query).fetchall()
        verdict[rule] = f"broken by {count:,}" if count else "passed"
    if not min_lines:
        verdict["every customer has enough lines in train"] = NOT_ASKED
    shop = members.shop
    foreign = sorted(set(item_columns) - {*shop.names_of("item"), *shop.item_schema.names})
    verdict["item_id_2_meta holds no column of a purchase"] = f"broken by {', '.join(foreign)}" if foreign else "passed"
    return verdict


def fail_if_leaking(leak_check: dict[str, str]) -> None:
    """Raise PrepError for the first broken rule."""
    for rule, verdict in leak_check.items():
        if verdict.startswith("broken"):
            raise PrepError(f"the split leaks: '{rule}' is {verdict}, so nothing is stored.")
