"""RESULTS.md and cost.svg from the figures of bench.py; nothing in them is typed by hand."""

from statistics import median

FLOORS = (
    ("parse", "write_inputs"),
    ("read_inputs", "write_result"),
    ("read_result", "write_result"),
)
WAYS = ("pipeline", "row by row", "pandas", "Polars")


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
        """One kind of figure of each stage of a way that has stages."""
        return [self.jobs[f"{way} {number}"][what] for number in (1, 2, 3)]

    def whole(self, way):
        """All figures of a way, its stages summed up (peak: the largest); None: it did not run."""
        if way in self.jobs or f"{way} 1" not in self.jobs:
            return self.jobs.get(way)
        return {what: (max if what == "peak_bytes" else sum)(self.stages(way, what)) for what in self.jobs[f"{way} 1"]}

    def floors(self):
        """Of each stage, the seconds that DuckDB needs to read its input and write its output."""
        return [sum(self.jobs[f"floors {what}"]["seconds"] for what in floor) for floor in FLOORS]

    def own_seconds(self):
        """Seconds of the pipeline less dbt on tiny data and an empty Metaflow run."""
        return self.whole("pipeline")["seconds"] - self.jobs["tiny 2"]["seconds"] - self.jobs["empty flow"]["seconds"]


def targets(scales):
    """Rows (scale, what, limit, measured values): met when none of the values is above the limit.

    A slash means divided by. Values None: not measured, since a scale is missing.
    """
    small, middle, large = (scales.get(name) for name in ("0.1", "0.3", "1"))
    tiny = [median(scale.whole("tiny")["seconds"] for scale in scales.values())]
    yield "tiny", "wall time of the three commands, s", 12, tiny
    if small:
        ours, rows = small.whole("pipeline"), small.whole("row by row")
        polars, pandas = small.whole("Polars"), small.whole("pandas")
        flows = [small.jobs[f"{way} 3"]["peak_bytes"] for way in ("pipeline", "row by row")]
        yield "0.1", "wall time / row by row", 1 / 5, [ours["seconds"] / rows["seconds"]]
        yield "0.1", "peak memory of the flow / row by row", 1 / 8, [flows[0] / flows[1]]
        for what in ("seconds", "peak_bytes", "kept_bytes"):
            pairs = zip(small.stages("pipeline", what), small.stages("row by row", what), strict=True)
            yield "0.1", f"{what} of each stage / row by row", 1, [own / row for own, row in pairs]
        yield "0.1", "peak memory / Polars", 1, [ours["peak_bytes"] / polars["peak_bytes"]]
        yield "0.1", "peak memory / pandas", 1, [ours["peak_bytes"] / pandas["peak_bytes"]]
        yield "0.1", "wall time / pandas", 1, [ours["seconds"] / pandas["seconds"]]
        own = small.own_seconds() / polars["seconds"]
        yield "0.1", "wall time, start-up of dbt and Metaflow apart / Polars", 1, [own]
    else:
        yield "0.1", "against row by row, Polars and pandas", None, None
    if large:
        jobs = large.jobs
        peak = {name: job["peak_bytes"] / 1e9 for name, job in jobs.items()}
        stage, client, plain = (jobs[f"{x}"] for x in ("pipeline 1", "reading client", "reading pyarrow"))
        floor = stage["seconds"] / large.floors()[0]
        yield "1", "wall time of the three stages, s", 300, [large.whole("pipeline")["seconds"]]
        yield "1", "peak memory of stages 1 and 2, GB", 2, [peak["pipeline 1"], peak["pipeline 2"]]
        yield "1", "peak memory of the flow, GB", 4, [peak["pipeline 3"]]
        yield "1", "wall time of stage 1 / its floor", 1.3, [floor]
        yield "1", "peak memory of stage 1, GB", 1, [peak["pipeline 1"]]
        for what in ("seconds", "peak_bytes"):
            ratio = client[what] / plain[what]
            yield "1", f"{what} of reading all tables / pyarrow, same bytes", 1.5, [ratio]
        yield "1", "peak memory of reading all tables, GB", 8, [peak["reading client"]]
        yield "1", "reading `data.test`, s", 1, [jobs["reading client_test"]["seconds"]]
        yield "1", "peak memory of reading `data.test`, GB", 0.5, [peak["reading client_test"]]
        checks = sum(jobs[f"checks {what}"]["seconds"] for what in ("hashes", "leaks"))
        yield (
            "1",
            "wall time of hashes and leak check / the three stages",
            0.1,
            [checks / large.whole("pipeline")["seconds"]],
        )
        yield "1", "wall time of the flow, row_sampling 1, s", 15, [jobs["sample 1 %"]["seconds"]]
        yield "1", "peak memory of the flow, row_sampling 1, GB", 1, [peak["sample 1 %"]]
    else:
        yield "1", "time, memory and reading at full size", None, None
    if small and middle and large:
        linear = large.purchases / small.purchases
        seconds = large.own_seconds() / small.own_seconds() / linear
        kept = large.whole("pipeline")["kept_bytes"] / small.whole("pipeline")["kept_bytes"] / linear
        pairs = zip(
            large.stages("pipeline", "peak_bytes"),
            middle.stages("pipeline", "peak_bytes"),
            strict=True,
        )
        yield "0.1 to 1", "growth of wall time, start-up apart / linear", 1.1, [seconds]
        yield "0.1 to 1", "growth of bytes kept / linear", 1.1, [kept]
        yield "0.3 to 1", "growth of each stage's peak memory", 1.1, [a / b for a, b in pairs]
    else:
        yield "0.1 to 1", "growth of time, bytes and memory", None, None


def table(head, rows):
    """Lines of a Markdown table."""
    rows = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows) + "\n"


def target_row(scale, what, limit, measured):
    """Cells of the table of targets."""
    if measured is None:
        return scale, what, "", "not measured", ""
    verdict = "met" if max(measured) <= limit else "**missed**"
    return scale, what, f"{limit:.3g}", ", ".join(f"{one:.3g}" for one in measured), verdict


def scale_rows(scale):
    """Rows of the table of one scale: the ways, their stages and all else that was measured."""
    floors = {f"pipeline {number}": floor for number, floor in enumerate(scale.floors(), 1)}
    wholes = {way: scale.whole(way) for way in WAYS}
    for name, job in sorted((wholes | scale.jobs).items(), key=lambda item: item[0].lower()):
        if job and name != "reading extract":
            sizes = [job[what] / 1e9 for what in ("peak_bytes", "written_bytes", "kept_bytes")]
            floor = f"{job['seconds'] / floors[name]:.1f}" if name in floors else ""
            yield (
                name,
                f"{job['seconds']:.2f}",
                f"{job['cpu_seconds']:.2f}",
                *(f"{size:.3f}" for size in sizes),
                floor,
            )


def page(machine, scales):
    """The parts of RESULTS.md."""
    yield f"""# What it costs

![cost against size](cost.svg)

Measured on: {machine}.

Medians; seconds of wall time, of floors and of reading inside the process after its imports. CPU:
user and system. Peak: the largest resident set of one process (Metaflow starts one for each step).
Written: all that went to the file system, spilled and temporary files too. Kept: the files that
are left. Floors: DuckDB only parsing (reading) the input of a stage plus only writing its output,
without the start of Python, dbt or Metaflow. Checks: what the stages spend on content hashes,
and the leak check, each on its own. Pipeline and row by row: 1 from CSV to parquet,
2 dbt, 3 the flow. The CSV files were in the page cache.

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
    styles = dict(zip(WAYS, ("#0072b2", "#d55e00", "#e69f00", "#009e73"), strict=True))
    panels = (
        ("seconds", "wall time, s"),
        ("peak_bytes", "peak memory, GB"),
        ("kept_bytes", "disk, GB"),
    )
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
        axis.set_xticks(sizes, [f"{size:.2g}" for size in sizes])
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def draw(results, folder):
    """Write RESULTS.md and cost.svg to `folder`."""
    scales = {
        name: Scale(figures) for name, figures in sorted(results["scales"].items(), key=lambda item: float(item[0]))
    }
    (folder / "RESULTS.md").write_text("\n".join(page(results["machine"], scales)))
    plot(scales, folder / "cost.svg")
