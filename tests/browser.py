"""A page as its reader meets it: opened from disk in headless Chromium, on a wide screen and on a phone's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page

WIDTHS = (1280, 390)  # pixels: a desk's screen, a phone's
MARGIN = 1  # pixels that rounding may take
LETTERS = 11  # pixels: the smallest in a figure
DRAWN = """() => [...document.querySelectorAll("svg")].filter(svg => svg.checkVisibility()).flatMap(svg => {
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    return [...svg.querySelectorAll("text, tspan")].map(e => parseFloat(getComputedStyle(e).fontSize) * scale);
})"""


@contextmanager
def opened(browser: Browser, file: Path, **look: object) -> Iterator[Page]:
    """Open a file; fail when it asks for anything else, or reports an error, up to the end of the block."""
    context = browser.new_context(**look)
    asked, errors = [], []
    try:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(file.resolve().as_uri())
        yield page
        others = [url for url in asked if not url.startswith("data:")][1:]
        assert others == [], f"{file} asks for other files"
        assert errors == [], f"{file} reports errors"
    finally:
        context.close()


def assert_page_works(browser: Browser, file: Path) -> None:
    """Fail unless the page stands alone, fits both screens, its figures can be read and its sliders obey keys."""
    for width in WIDTHS:
        with opened(browser, file, viewport={"width": width, "height": 800}) as page:
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width + MARGIN, f"{file} is {wide} pixels wide on a screen of {width}"
            smallest = min(page.evaluate(DRAWN), default=LETTERS)
            assert smallest >= LETTERS - 0.01, f"{file} has letters of {smallest:.1f} pixels on a screen of {width}"
            for slider in page.locator(".mrl-slider").all():
                for axis in slider.locator("> label").all():
                    assert_axis_moves(slider, axis)


def assert_axis_moves(slider: Locator, axis: Locator) -> None:
    """Fail unless one key press changes the label and which single picture is seen, and the opposite key undoes it."""
    handle = axis.locator("input")
    if handle.get_attribute("max") == "0":
        return
    away, back = ("ArrowLeft", "ArrowRight") if int(handle.input_value()) > 0 else ("ArrowRight", "ArrowLeft")
    before = state(slider, axis)
    handle.press(away)
    after = state(slider, axis)
    assert after["label"] != before["label"], "the label stays"
    assert after["spoken"] in after["label"], "what is read aloud is what is seen"
    assert after["seen"] != before["seen"], "the picture stays"
    handle.press(back)
    assert state(slider, axis) == before


def state(slider: Locator, axis: Locator) -> dict[str, str | int]:
    """Return an axis's label, what is read aloud, and which picture is seen; fail when that is not exactly one."""
    sizes = slider.locator("> .picture").evaluate_all("all => all.map(p => p.checkVisibility() ? p.offsetHeight : 0)")
    seen = [i for i, height in enumerate(sizes) if height > 0]
    assert len(seen) == 1, f"{len(seen)} pictures are seen at once"
    spoken = axis.locator("input").get_attribute("aria-valuetext")
    return {"label": axis.locator("output").inner_text(), "spoken": spoken, "seen": seen[0]}
