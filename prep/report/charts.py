"""The charts of the card, as Vega-Lite, and text that is safe on its page."""

from collections import Counter
from typing import Any

from metaflow.cards import VegaChart

# They differ in lightness too: for colour-blind readers, and in print.
KEPT, CHOSEN, LEFT_OUT = "#56B4E9", "#0072B2", "#AAAAAA"
MOST_BARS = 20  # of a small chart
SPLIT_COLOURS = {"train": "#0072B2", "valid": "#E69F00", "test": "#222222"}
OF_SPLIT = {
    "field": "split",
    "type": "nominal",
    "scale": {"domain": [*SPLIT_COLOURS], "range": [*SPLIT_COLOURS.values()]},
}


def as_text(value: object) -> str:
    """The value for a Markdown part of the page: whatever it holds, it is shown and does nothing.

    Tables and charts need no such care: Metaflow's page and Vega write their cells and labels as text.
    """
    return "".join(c if c.isalnum() or c in " .,:;%()/_'-\N{NO-BREAK SPACE}" else f"&#{ord(c)};" for c in str(value))


def share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / (whole or 1):.1f}\N{NO-BREAK SPACE}%)"


def chart(description: str, data: list[dict[str, Any]], **spec: Any) -> VegaChart:
    """A Vega-Lite chart as wide as its place, as SVG: sharp in print, and its texts are texts."""
    config = {"axis": {"labelFontSize": 12, "grid": False}, "mark": {"tooltip": True}, "view": {"stroke": None}}
    spec |= {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "description": description, "config": config}
    spec |= {"usermeta": {"embedOptions": {"renderer": "svg"}}, "width": "container", "data": {"values": data}}
    return VegaChart(spec)


def bar(text: str, colour: str, length: int, start: int = 0) -> dict[str, Any]:
    return {"text": text, "colour": colour, "start": start, "end": start + length}


def bar_chart(description: str, bars: list[dict[str, Any]]) -> VegaChart:
    """Bars, each with its text above it, at the end of the bar that has more room beside it."""
    longest = max(bar["end"] for bar in bars)
    y = {"field": "text", "type": "nominal", "sort": None, "axis": None}
    x = {"field": "start", "type": "quantitative", "axis": None, "scale": {"domain": [0, longest]}}
    colour = {"field": "colour", "type": "nominal", "scale": None}
    shapes = {
        "mark": {"type": "bar", "height": 10, "yOffset": 8},
        "encoding": {"x": x, "x2": {"field": "end"}, "y": y, "color": colour},
    }
    layers: list[dict[str, Any]] = [shapes]
    for align, place, which in (("left", "start", "<="), ("right", "end", ">")):
        layers.append(
            {
                "transform": [{"filter": f"datum.start {which} {longest / 2}"}],
                "mark": {"type": "text", "align": align, "yOffset": -6, "fontSize": 12},
                "encoding": {"x": x | {"field": place}, "y": y, "text": {"field": "text"}},
            }
        )
    return chart(description, bars, height={"step": 36}, layer=layers)


def curve_chart(description: str, points: list[dict[str, Any]]) -> VegaChart:
    """Customers kept by each min_interactions; the chosen point, with its text, stands out."""
    x = {"field": "least", "type": "quantitative", "title": "min_interactions", "scale": {"domainMin": 0}}
    y = {"field": "customers", "type": "quantitative", "title": "customers"}
    chosen = [{"filter": "datum.chosen"}]
    return chart(
        description,
        points,
        height=180,
        encoding={"x": x, "y": y, "tooltip": {"field": "text"}},
        layer=[
            {"mark": {"type": "line", "color": KEPT, "point": {"color": KEPT, "size": 50}}},
            {"transform": chosen, "mark": {"type": "point", "filled": True, "size": 120, "color": CHOSEN}},
            {
                "transform": chosen,
                "mark": {"type": "text", "align": "left", "dx": 8, "dy": -10, "fontSize": 12},
                "encoding": {"text": {"field": "text"}},
            },
        ],
    )


def daily_chart(description: str, days: list[dict[str, Any]], begins: dict[str, str], form: str) -> VegaChart:
    """Rows per day, and a line where each split of `begins` ({label: day}) begins; `form` is that of a day."""
    x = {"field": "day", "timeUnit": "utcyearmonthdate", "title": None, "axis": {"format": form, "labelOverlap": True}}
    y = {"field": "rows", "type": "quantitative"}
    colour = OF_SPLIT | {"legend": {"orient": "top", "title": None, "labelFontSize": 12}}
    bars = {"mark": {"type": "bar", "binSpacing": 0}, "encoding": {"x": x, "y": y, "color": colour}}
    lines = {
        "mark": {"type": "rule", "strokeDash": [4, 3]},
        "encoding": {"x": x | {"bandPosition": 0}},
        "data": {"values": [{"day": day} for day in begins.values()]},
    }
    title = {"text": [f"{label} from {day}" for label, day in begins.items()], "anchor": "end", "fontSize": 12}
    return chart(description, days, height=200, title=title, layer=[bars, lines])


def left_out_chart(title: str, days: list[dict[str, Any]]) -> VegaChart:
    """Purchase lines of each day, and of how many customers they are."""
    x = {
        "field": "day",
        "timeUnit": "utcyearmonthdate",
        "title": None,
        "axis": {"format": "%d %b", "tickCount": 6},
    }
    y = {"field": "rows", "type": "quantitative", "axis": {"tickCount": 3}}
    tooltip = [{"field": name} for name in ("day", "customers", "rows")]
    heading = {"text": title, "anchor": "start", "fontSize": 12}
    mark = {"type": "bar", "color": LEFT_OUT}
    return chart(title, days, title=heading, height=90, mark=mark, encoding={"x": x, "y": y, "tooltip": tooltip})


def drift_chart(title: str, counts: list[tuple[str, str, int]], order: list[str] | None = None) -> VegaChart:
    """Shares of train and test side by side for each value; counts: (split, value, count)."""
    totals: dict[str, Counter] = {"train": Counter(), "test": Counter()}
    for split, value, count in counts:
        totals[split][value] += count
    shares = {split: Counter({value: n / of.total() for value, n in of.items()}) for split, of in totals.items()}
    largest = shares["train"] | shares["test"]
    seen = sorted(largest, key=lambda value: (-largest[value], value))
    if order:
        seen = [value for value in order if value in largest]
    elif len(seen) > MOST_BARS:
        for of in shares.values():
            of["all others"] = sum(of.pop(value, 0) for value in seen[MOST_BARS - 1 :])
        seen = [*seen[: MOST_BARS - 1], "all others"]
    data = [{"value": value, "split": split, "share": of[value]} for value in seen for split, of in shares.items()]
    apart = sum(abs(shares["train"][value] - shares["test"][value]) for value in seen) / 2
    x = {
        "field": "share",
        "type": "quantitative",
        "title": None,
        "axis": {"format": "%", "tickCount": 2, "labelFlush": True},
    }
    y = {"field": "value", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 120, "ticks": False}}
    encoding = {"x": x, "y": y, "yOffset": {"field": "split", "sort": None}, "color": OF_SPLIT | {"legend": None}}
    heading = {"text": title, "subtitle": f"{apart:.1%} apart", "anchor": "start"}
    return chart(title, data, title=heading, height={"step": 11}, mark="bar", encoding=encoding)
