"""The figures of each split as text, for the end of a run; the card shows them and more."""


def summary_text(summary, leak_check):
    """The figures of each split as lines of at most 37 columns: Metaflow writes up to 63 before each.

    No line begins with a blank, which Metaflow would strip.
    """
    splits, rows = summary.values(), sum(split["rows"] for split in summary.values())
    lines = [
        f"{label:<6}{split['first_day']} to {split['last_day']}" if split["rows"] else f"{label:<6}no row"
        for label, split in summary.items()
    ]
    table = [["split", *summary]]
    for key in ("rows", "units", "customers", "new_customers", "articles", "new_articles"):
        counts = [f"{split[key]:,}" if key in split else "" for split in splits]
        table.append(["- new" if key.startswith("new") else key, *counts])
    table.insert(2, ["- share", *(f"{split['rows'] / rows:.1%}" for split in splits)])
    lines += [f"{name:<9}{train:>11}{valid:>8}{test:>8}" for name, train, valid, test in table]
    broken = sum(verdict != "passed" for verdict in leak_check.values())
    return "\n".join([*lines, f"leak check: {broken or 'none'} of {len(leak_check)} rules broken"])
