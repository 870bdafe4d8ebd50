"""A card opened in a browser, and what it is made of."""

import base64
import json
import re

import pandas as pd


def components(part):
    """The components of a card, from top to bottom."""
    if isinstance(part, dict) and "type" in part:
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from components(inner)


def parts_of(page):
    """The components in the page's HTML."""
    (data,) = re.findall(r'__MF_DATA__\["[^"]*"\] = "([^"]+)"', page)
    return list(components(json.loads(base64.b64decode(data))))


def charts_of(parts):
    """The Vega-Lite specifications of a card, by their description."""
    return {part["spec"]["description"]: part["spec"] for part in parts if part["type"] == "vegaChart"}


def values_of(parts, description):
    """The data of a chart as a table."""
    return pd.DataFrame(charts_of(parts)[description]["data"]["values"])


def open_page(browser, html, folder, width):
    """The page in a window of that width, without network, and what it complained of."""
    (folder / "card.html").write_text(html, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 850})
    errors = []
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    # Metaflow's page asks for one font; the answer is empty, all else is refused.
    page.route("**/*", lambda route: route.abort())
    page.route("https://fonts.googleapis.com/**", lambda route: route.fulfill(body=""))
    page.route("file://**", lambda route: route.continue_())
    page.goto((folder / "card.html").as_uri())
    page.wait_for_function(
        "document.querySelectorAll('svg.marks').length == document.querySelectorAll('.vega-embed').length"
    )
    return page, errors
