"""A card opened in a browser."""


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
