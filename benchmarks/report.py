"""results.md and cost.svg from the figures of bench.py; nothing in them is typed by hand."""

from statistics import median

FLOORS = (
    ("parse", "write_inputs"),
    ("read_inputs", "write_result"),
    ("read_result", "write_result"),
)
WAYS = ("pipeline", "first release", "row by row", "pandas", "Polars")


class Scale:
    """The medians of one scale: jobs[name][what]."""

    def __init__(self, figures):
        self.purchases, self.csv_bytes = figures["purchases"], figures["csv_bytes"]
        self.load, self.repeats = figures["load"], len(figures["jobs"]["pipeline 1"])
        self.jobs = {
            name: {what: median(run[what] for run in runs) for what in runs[0]}
            for name, runs in figures["jobs"].items()
        }

    def stages(self, way, what):
        """One kind of figure of each stage of a way that has stages; the largest scales have two."""
        return [self.jobs[name][what] for number in (1, 2, 3) if (name := f"{way} {number}") in self.jobs]

    def whole(self, way):
        """All figures of a way, its stages summed up (peak: the largest); None: it did not run, or not to its end."""
        if way in self.jobs or f"{way} 1" not in self.jobs:
            job = self.jobs.get(way)
            return None if job is None or job["failed"] else job
        if sum(self.stages(way, "failed")):
            return None
        return {what: (max if what == "peak_bytes" else sum)(self.stages(way, what)) for what in self.jobs[f"{way} 1"]}

    def ratio(self, what, one, other):
        """One kind of figure of a way over that of another; None where one of them did not end."""
        left, right = self.whole(one), self.whole(other)
        return left[what] / right[what] if left and right else None

    def floors(self):
        """Of each stage, the seconds that DuckDB needs to read its input and write its output."""
        return [sum(self.jobs[f"floors {what}"]["seconds"] for what in floor) for floor in FLOORS]

    def own_seconds(self):
        """Seconds of the pipeline less dbt on tiny data and an empty Metaflow run."""
        return self.whole("pipeline")["seconds"] - self.jobs["tiny 2"]["seconds"] - self.jobs["empty flow"]["seconds"]


def targets(scales):
    """Rows (scale, what, limit, measured values): met when none of the values is above the limit.

    A slash means divided by. Values None: not measured, since a scale or a contender is missing.
    """
    tiny = [scale.ratio("seconds", "tiny", "tiny, first release") for scale in scales.values()]
    yield "tiny", "wall time of the three commands / first release", 0.77, [median(tiny)]
    for name, scale in scales.items():
        ours = scale.whole("pipeline")
        if name == "0.1":
            yield name, "wall time / first release", 0.6, [scale.ratio("seconds", "pipeline", "first release")]
            yield name, "wall time / row by row", 0.25, [scale.ratio("seconds", "pipeline", "row by row")]
            yield name, "wall time of stage 2 / row by row", 1, [scale.ratio("seconds", "pipeline 2", "row by row 2")]
            yield name, "wall time / pandas", 1, [scale.ratio("seconds", "pipeline", "pandas")]
            yield (
                name,
                "peak memory / Polars, pandas",
                1,
                [scale.ratio("peak_bytes", "pipeline", "Polars"), scale.ratio("peak_bytes", "pipeline", "pandas")],
            )
        if name in ("0.1", "0.3", "1"):
            polars = scale.whole("Polars")
            measured = [polars and scale.own_seconds() / polars["seconds"]]
            yield name, "wall time, start-up of dbt and Metaflow apart / Polars", 1, measured
        if name in ("0.3", "1"):
            measured = [polars and ours["peak_bytes"] / polars["peak_bytes"]]
            yield name, "peak memory / Polars", 0.5, measured
        if name == "0.3":
            held = scale.jobs["storing"]["peak_bytes"] - scale.jobs["tiny storing"]["peak_bytes"]
            file = scale.jobs["pipeline 2"]["kept_bytes"]
            yield name, "peak memory of storing an artifact, over that of a tiny one / its bytes", 3.1, [held / file]
        if name in ("1", "1 without baskets"):
            yield name, "wall time / first release", 0.5, [scale.ratio("seconds", "pipeline", "first release")]
        if name == "1":
            yield from full_size(scale, ours)
        if name == "1 without baskets":
            yield name, "wall time, s", 250, [ours["seconds"]]
            yield (
                name,
                "peak memory of stages 1 and 2, GB",
                4,
                [one / 1e9 for one in scale.stages("pipeline", "peak_bytes")[:2]],
            )
            yield name, "peak memory of the flow, GB", 3.7, [scale.jobs["pipeline 3"]["peak_bytes"] / 1e9]
    yield from growth(scales)


def full_size(scale, ours):
    """The targets of scale 1."""
    jobs = scale.jobs
    peak = {name: job["peak_bytes"] / 1e9 for name, job in jobs.items()}
    yield "1", "stage 2, wall time / first release", 0.4, [scale.ratio("seconds", "pipeline 2", "first release 2")]
    yield "1", "stage 2, peak memory, GB", 1.4, [peak["pipeline 2"]]
    yield (
        "1",
        "stage 2, written bytes / first release",
        0.35,
        [scale.ratio("written_bytes", "pipeline 2", "first release 2")],
    )
    yield "1", "flow, wall time / first release", 0.6, [scale.ratio("seconds", "pipeline 3", "first release 3")]
    yield "1", "flow, peak memory, GB", 2.5, [peak["pipeline 3"]]
    yield "1", "flow, kept bytes / first release", 1, [scale.ratio("kept_bytes", "pipeline 3", "first release 3")]
    yield "1", "wall time of stage 1 / its floor", 1.3, [jobs["pipeline 1"]["seconds"] / scale.floors()[0]]
    ratio = scale.ratio("peak_bytes", "reading client", "reading first release")
    yield "1", "peak memory of reading all tables as plain text / first release, dictionaries", 1.7, [ratio]
    yield "1", "reading `data.test`, s", 0.5, [jobs["reading client_test"]["seconds"]]
    checks = sum(jobs[f"checks {what}"]["seconds"] for what in ("hashes", "leaks"))
    yield "1", "wall time of hashes and leak check / the three stages", 0.1, [checks / ours["seconds"]]
    yield "1", "wall time of the flow, row_sampling 1, s", 15, [jobs["sample 1 %"]["seconds"]]
    yield "1", "peak memory of the flow, row_sampling 1, GB", 1, [peak["sample 1 %"]]


def growth(scales):
    """The targets of growth from one scale to another, over what linear growth would be."""
    for small, large, limit in (("0.1", "1", 1.1), ("1", "3", 1.15), ("1", "10", 1.3)):
        span = f"{small} to {large}{', dbt with 4 GB' if large == '10' else ''}"
        if small not in scales or large not in scales:
            yield span, "growth of time and bytes", limit, None
            continue
        one, other = scales[small], scales[large]
        linear = other.purchases / one.purchases
        if "pipeline 3" in other.jobs:
            measured = [
                other.own_seconds() / one.own_seconds(),
                other.whole("pipeline")["kept_bytes"] / one.whole("pipeline")["kept_bytes"],
            ]
        else:
            measured = [
                sum(other.stages("pipeline", what)[:2]) / sum(one.stages("pipeline", what)[:2])
                for what in ("seconds", "kept_bytes")
            ]
        yield span, "growth of time, of bytes kept / linear", limit, [grown / linear for grown in measured]


def table(head, rows):
    """Lines of a Markdown table."""
    rows = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows) + "\n"


def target_row(scale, what, limit, measured):
    """Cells of the table of targets."""
    if measured is not None and None in measured:
        return scale, what, f"{limit:.3g}", "the other did not end", ""
    if measured is None:
        return scale, what, f"{limit:.3g}", "not measured", ""
    verdict = "met" if max(measured) <= limit else "**missed**"
    return scale, what, f"{limit:.3g}", ", ".join(f"{one:.3g}" for one in measured), verdict


def scale_rows(scale):
    """Rows of the table of one scale: the ways, their stages and all else that was measured."""
    floors = {}
    if "floors parse" in scale.jobs:
        floors = {f"pipeline {number}": floor for number, floor in enumerate(scale.floors(), 1)}
    wholes = {way: scale.whole(way) for way in WAYS}
    for name, job in sorted((wholes | scale.jobs).items(), key=lambda item: item[0].lower()):
        if job:
            sizes = [f"{job[what] / 1e9:.3f}" for what in ("peak_bytes", "written_bytes", "kept_bytes")]
            floor = f"{job['seconds'] / floors[name]:.1f}" if name in floors else ""
            yield (
                name + (" (did not end)" if job["failed"] else ""),
                f"{job['seconds']:.2f}",
                f"{job['cpu_seconds']:.2f}",
                *sizes,
                floor,
            )


def page(machine, scales):
    """The parts of results.md."""
    yield f"""# Measurements

![cost against size](cost.svg)

Measured on: {machine}.

Medians; seconds of wall time, of floors and of reading inside the process after its imports. CPU:
user and system. Peak: the largest resident set of one process (Metaflow starts one for each step).
Written: all that went to the file system, spilled and temporary files too. Kept: the files that
are left. Floors: DuckDB only parsing (reading) the input of a stage plus only writing its output,
without the start of Python, dbt or Metaflow. Checks: what the stages spend on content hashes, and
the leak check, each on its own. Reading: the three tables, through the Client or out of the data set.
Storing: Metaflow takes the data set as one artifact, and does nothing else.

Pipeline, first release and row by row: 1 from CSV to parquet, 2 dbt, 3 the flow. First release: this
project at c05fc9f, in the same run. Polars may hold 4 GB of data from scale 0.3 on. Beyond scale 1 the
flow takes one percent, and beyond scale 3 dbt has MEMORY_LIMIT=4GB ([why](more-than-one-machine.md)).
Without baskets: each purchase is of any customer on any day, so that ids hardly compress. The CSV files
were in the page cache, but for scale 10.

## Targets
"""
    yield table(("scale", "what", "at most", "measured", ""), (target_row(*row) for row in targets(scales)))
    for name, scale in scales.items():
        yield f"""## Scale {name}

{scale.purchases:,} purchases, {scale.csv_bytes / 1e9:.3f} GB of CSV. Runs of each: {scale.repeats};
load average of the machine just before: {scale.load:.1f}.
"""
        head = "what", "seconds", "CPU seconds", "peak GB", "written GB", "kept GB", "/ floor"
        yield table(head, scale_rows(scale))


def plot(scales, path):
    """Seconds, peak memory and kept bytes against the number of purchases, log-log, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "cost", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    styles = dict(zip(WAYS, ("#0072b2", "#999999", "#d55e00", "#e69f00", "#009e73"), strict=True))
    panels = (
        ("seconds", "wall time, s"),
        ("peak_bytes", "peak memory, GB"),
        ("kept_bytes", "disk, GB"),
    )
    scales = {name: scale for name, scale in scales.items() if "without" not in name}
    sizes = [scale.purchases / 1e6 for scale in scales.values()]
    for axis, (what, title) in zip(axes, panels, strict=True):
        for way, colour in styles.items():
            ran = [scale for scale in scales.values() if scale.whole(way)]
            cost = [scale.whole(way)[what] / (1 if what == "seconds" else 1e9) for scale in ran]
            millions = [scale.purchases / 1e6 for scale in ran]
            axis.loglog(millions, cost, marker="o", color=colour, label=way)
        axis.set(title=title, xlabel="purchases, millions")
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.set_xticks(sizes, [f"{size:.2g}" if size < 100 else f"{size:.0f}" for size in sizes])
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def by_size(item):
    """The order of the scales: by size, and the one without baskets after its like."""
    return float(item[0].split()[0]), item[0]


def draw(results, folder):
    """Write results.md and cost.svg to `folder`."""
    scales = {name: Scale(figures) for name, figures in sorted(results["scales"].items(), key=by_size)}
    (folder / "results.md").write_text("\n".join(page(results["machine"], scales)))
    plot(scales, folder / "cost.svg")
