"""A page from a finished run: complete, safe, alone in its file, and readable on every screen."""

import re
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from browser import assert_page_works, opened
from eyes import contrast
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell
from small_runs import CLAIMS, code, figure, slider, write

from mrl_lab import plots, stats
from mrl_lab.report import index, page

HOSTILE = "<script>alert(1)</script>"


def svg(drawn: Figure | None = None) -> dict[str, str]:
    file = StringIO()
    (drawn or figure()).savefig(file, format="svg", metadata={"Date": None})
    return {"image/svg+xml": file.getvalue(), "text/plain": "<Figure>"}


def cells() -> list:
    return [
        new_markdown_cell("## The idea\n\nThe loss is $L = \\sum_m c_m$, and `$HOME` is a variable."),
        code("figure()", svg(), count=2),
        code("slider", slider(layer=[1, 2], dim=[2, 4])._repr_mimebundle_(), count=3),
        new_markdown_cell("A wide table:\n\n" + "| head " * 40 + "|\n" + "|--" * 40 + "|\n" + "| a cell " * 40 + "|"),
        new_markdown_cell("$$" + " + ".join(f"x_{{{i}}}" for i in range(60)) + "$$\n\n`" + "long" * 60 + "`"),
        code("print(" + "1 + " * 100 + "1)", "wide " * 100, count=4),
    ]


def html(folder) -> str:
    return page.render(folder).read_text()


# ------------------------------------------------------------------------------------------------- in words


def test_the_header_says_what_ran_how_when_and_on_what(tmp_path):
    text = html(write(tmp_path, "01_mrl", "minutes"))
    assert "<title>Learn 01_mrl</title>" in text
    facts = re.search(r'<p class="facts">(.*)</p>', text)[1]
    assert re.findall("<span>(.*?)</span>", facts) == [
        *("01_mrl", "budget minutes", "25 November 2026", "4 min 10 s", "CPU, 2 threads")
    ]
    assert text.count("<h1>") == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599.7, "1 h 0 min"), (7320, "2 h 2 min")]
)
def test_durations_as_one_says_them(seconds, text):
    assert page.duration(seconds) == text


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ({"duration": 58.2}, "58 s"),  # published before the others were noted
        ({"duration": 58.2, "computed": 50.0, "reused": 0.0}, "computed in 58 s"),
        ({"duration": 58.2, "computed": 0.2, "reused": 3345.1}, "computed in 55 min 45 s, drawn again in 58 s"),
        (
            {"duration": 58.2, "computed": 4.0, "reused": 3345.1},
            "computed in 58 s, and 55 min 45 s of earlier work reused",
        ),
    ],
)
def test_time_computed_and_time_reused_as_one_says_them(times, text, tmp_path):
    assert page.took(times) == text
    folder = write(tmp_path, "01_mrl", "minutes", **times)
    assert f"<span>{text}</span>" in html(folder)
    assert f"<span>{text}</span>" in index.write_index(tmp_path).read_text()


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ("cpu: x86_64, float32, 2 threads (asked for)", "CPU, 2 threads"),
        ("cpu: arm, bf16 autocast, 1 threads (asked for)", "CPU, bf16 autocast, 1 thread"),
        ("cuda: NVIDIA H200, bf16 autocast (best of what torch sees: cuda, cpu)", "NVIDIA H200, bf16 autocast"),
        ("mps: arm, float32 (best of what torch sees: mps, cpu)", "MPS"),
        ("a friend’s laptop", "a friend’s laptop"),
    ],
)
def test_the_header_names_the_device_for_a_reader_and_the_footer_in_full(tmp_path, described, told):
    header, _, footer = html(write(tmp_path, "01_mrl", "minutes", device=described)).partition("<main>")
    assert f"<span>{told}</span>" in header
    assert described in footer


def test_a_first_look_says_so_and_other_pages_count_their_claims(tmp_path):
    for tag in ("seconds", "minutes"):
        folder = write(tmp_path, "01_mrl", tag)
        (folder / "claims.csv").write_text(
            CLAIMS + "1,a,b,1,0,2,3,shown,\n2,a,b,1,0,2,3,contradicted,\n3,a,b,1,0,2,3,shown,\n"
        )
    first, full = (html(tmp_path / "01_mrl" / tag) for tag in ("seconds", "minutes"))
    assert "It judges no claim" in first
    assert 'claims-summary">Claims' not in first
    assert "It judges no claim" not in full
    summary = re.search(r"<p class=\"claims-summary\">(.*)</p>", full)[1]
    assert re.sub("<[^>]*>", "", summary) == "Claims:2 ✓&nbsp;shown1 ✗&nbsp;contradicted"


def test_the_footer_says_how_the_page_was_made_and_links_what_is_there(tmp_path):
    folder = write(tmp_path, "01_mrl", "minutes")
    (folder / "scores.csv").touch()
    footer = html(folder).partition("<footer>")[2]
    for fact in (
        "mrl-lab run 01_mrl",
        "dim = 64",
        "clothes",
        "abababababab…",
        "MIT",
        "c0ffee",
        "torch 2.13.0",
        "trained here",
    ):
        assert fact in footer
    assert re.findall(r'href="([^"]+)"', footer) == ["scores.csv", "run.json", "notebook.ipynb"]


def test_files_of_one_data_set_share_a_line(tmp_path):
    both = {"name": "clothes", "place": "cache", "licence": "MIT"}
    files = [both | {"file": f, "sha256": f * 64} for f in "ab"]
    text = html(write(tmp_path, "01_mrl", "minutes", data=files, weights=[{"file": "own.safetensors"}]))
    assert f"clothes, place: cache, licence: MIT: a sha256 {'a' * 12}…, b sha256 {'b' * 12}…" in text
    assert "<dd>own.safetensors</dd>" in text


def test_a_run_without_git_budget_or_device_has_a_page_too(tmp_path):
    run = {"git": None, "parameters": {}, "device": None, "data": ["my.npz"]}
    text = html(write(tmp_path, "01_mrl", "default", **run))
    assert "no git here" in text
    assert "my.npz" in text


# -------------------------------------------------------------------------------------------- the notebook


def test_code_is_folded_maths_is_mathml_and_the_title_is_not_repeated(tmp_path):
    text = html(write(tmp_path, "01_mrl", "minutes", cells()))
    assert text.count('<details class="code">') == 3
    assert "code [3]" in text
    assert text.count("<math") == 2
    assert "<code>$HOME</code>" in text
    assert "Learn" not in text.partition("<main>")[2]


def test_the_html_face_of_a_slider_is_shown_and_no_widget(tmp_path):
    text = html(write(tmp_path, "01_mrl", "minutes", cells()))
    assert text.count('class="mrl-slider"') == 1
    assert "widget" not in text


def test_of_several_faces_the_one_that_needs_nothing_else_is_shown(tmp_path):
    faces = {"application/javascript": "$('x')", "text/latex": "$x$", "text/html": "<b>seen</b>", "text/plain": "x"}
    main = html(write(tmp_path, "01_mrl", "minutes", [code("show()", faces)])).partition("<main>")[2]
    assert "<b>seen</b>" in main
    assert "$(" not in main


def test_nothing_that_a_user_gave_is_read_as_html(tmp_path):
    notebook = [code(f"x = '{HOSTILE}'", HOSTILE, ValueError(HOSTILE), {"text/plain": HOSTILE})]
    given = {"parameters": {"note": HOSTILE}, "command": HOSTILE, "device": HOSTILE, "data": [{"name": HOSTILE}]}
    assert HOSTILE not in html(write(tmp_path, "01_mrl", "minutes", notebook, **given))


def test_the_method_stands_open_and_other_code_is_folded(tmp_path):
    method = new_code_cell("class MRL: ...", metadata={"tags": ["method"]})
    text = html(write(tmp_path, "01_mrl", "minutes", [code("x = 1"), method]))
    opened = re.findall(r'<details class="code"( open="")?>.*?</details>', text, re.DOTALL)
    assert opened == ["", ' open=""']


def test_the_failing_cell_is_marked_open_and_linked_and_papermill_s_own_marks_go(tmp_path):
    marker = new_markdown_cell("An Exception was encountered", metadata={"tags": ["papermill-error-cell-tag"]})
    notebook = [
        marker,
        code("x = 1", count=1),
        code("rows[3]", IndexError("out of range"), count=2),
        new_code_cell("y"),
    ]
    text = html(write(tmp_path, "01_mrl", "minutes", notebook, status="failed", failure={"cell": 2}))
    assert "This run failed in cell [2]" in text
    assert 'href="#failed"' in text
    failed = re.search(r'<section class="cell failed" id="failed">.*?</section>', text, re.DOTALL)[0]
    assert "rows" in failed
    assert re.search(r"IndexError</span>: out of range", failed)
    assert 'class="code" open' in failed
    assert "not run" in text
    assert "An Exception" not in text


def test_the_cell_in_which_the_kernel_died_is_marked(tmp_path):
    notebook = [code("x = 1"), new_code_cell("os.kill(...)"), new_code_cell("y")]
    text = html(write(tmp_path, "01_mrl", "minutes", notebook, status="failed", failure={"cell": 2}))
    assert "kill" in re.search(r'id="failed">.*?</section>', text, re.DOTALL)[0]


def test_the_same_run_gives_the_same_bytes_and_no_half_page_is_left(tmp_path):
    folder = write(tmp_path, "01_mrl", "minutes", cells())
    assert html(folder) == html(folder)
    assert {f.name for f in folder.iterdir()} == {"page.html", "run.json", "notebook.ipynb"}


# --------------------------------------------------------------------------------------------- in a browser


@pytest.mark.browser
def test_a_page_stands_alone_fits_and_its_sliders_move(browser, tmp_path):
    folder = write(tmp_path, "01_mrl", "minutes", cells())
    assert_page_works(browser, page.render(folder))


@pytest.mark.browser
def test_wide_figures_and_small_letters_are_read_on_a_phone(browser, tmp_path):
    plots.use_style()
    tiny = Figure(figsize=(8.4, 2))
    tiny.text(0.5, 0.5, "a footnote", fontsize=7)
    figures = [tiny, Figure(figsize=(12, 1)), plots.nesting([2, 4, 8])]
    assert_page_works(
        browser, page.render(write(tmp_path, "01_mrl", "minutes", [code("draw()", svg(one)) for one in figures]))
    )


@pytest.mark.browser
def test_the_switch_unfolds_all_code_and_folds_it_again(browser, tmp_path):
    with opened(browser, page.render(write(tmp_path, "01_mrl", "minutes", cells()))) as shown:
        code_box = shown.locator(".highlight")
        assert not any(box.is_visible() for box in code_box.all())
        shown.get_by_label("show all code").check()
        assert all(box.is_visible() for box in code_box.all())
        shown.get_by_label("show all code").uncheck()
        assert not any(box.is_visible() for box in code_box.all())


@pytest.mark.browser
def test_ink_of_text_and_figures_follows_light_and_dark(browser, tmp_path):
    file = page.render(write(tmp_path, "01_mrl", "minutes", cells()))
    colours = """() => [document.body, document.querySelector("main svg text")].map((e, i) =>
        getComputedStyle(e)[i ? "fill" : "color"]).concat(getComputedStyle(document.body).backgroundColor)"""
    seen = {}
    for scheme in ("light", "dark"):
        with opened(browser, file, color_scheme=scheme) as shown:
            seen[scheme] = shown.evaluate(colours)
    assert seen["light"] == ["rgb(27, 31, 36)", "rgb(27, 31, 36)", "rgb(255, 255, 255)"]
    ink, figure_ink, paper = seen["dark"]
    assert ink == figure_ink
    assert brightness(ink) > 200 > 40 > brightness(paper)


UNDER = """() => [...document.querySelectorAll("main svg text")].map(text => {
    const box = text.getBoundingClientRect(), svg = text.closest("svg");
    const under = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2)
        .map(e => svg.contains(e) && e.tagName === "path" ? getComputedStyle(e).fill : "none").find(f => f !== "none");
    const paper = getComputedStyle(document.body).backgroundColor;
    return [text.textContent, getComputedStyle(text).fill, under || paper];
})"""


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_a_figure_stands_out_from_what_lies_under_it(browser, tmp_path, scheme):
    plots.use_style()
    table = pd.DataFrame(np.linspace(-40, 40, 25).reshape(5, 5))
    figures = [plots.cells(table, "points", signed=signed) for signed in (True, False)]
    file = page.render(write(tmp_path, "01_mrl", "minutes", [code("cells()", svg(figure)) for figure in figures]))
    with opened(browser, file, color_scheme=scheme, viewport={"width": 1280, "height": 4000}) as shown:
        told = shown.evaluate(UNDER)
    weak = {text: (over, under) for text, over, under in told if contrast(rgb(over), rgb(under)) < 4.5}
    assert len({under for _, _, under in told}) > 20, "the cells were not found"
    assert weak == {}


def figures() -> list[Figure]:
    """Return one of each kind, with names as long as a page has them."""
    plots.use_style()
    long = [f"a way with a long name, no. {i}" for i in range(8)]
    keys = pd.MultiIndex.from_product([long, [8, 16, 256, 384], range(3)], names=["method", "dim", "seed"])
    rows = keys.to_frame(index=False).assign(metric="pairs map@10", layer=3, flops=lambda t: 1e6 * t.dim)
    rows["value"] = 50 + 5 * np.log2(rows.dim) + rows.seed + rows.index % 7
    table = pd.DataFrame(np.linspace(-40, 40, 6).reshape(2, 3), long[:2], [20, 50, 100])
    return [
        plots.curve_and_ratio(rows, "pairs map@10", long[:3], base=long[0]),
        plots.curve_and_ratio(rows, "pairs map@10"),
        plots.differences(stats.paired(rows, *long[:2], "pairs map@10"), -1.0, what=f"{long[0]} − {long[1]}, mAP@10"),
        plots.frontier(rows, "pairs map@10", long[:4]),
        plots.heatmap(rows, "pairs map@10", long[0], minus=long[1]),
        plots.cells(table, "mAP@10 less that of exact search, of one seed (points)", signed=True),
    ]


ON_EACH_OTHER = """() => [...document.querySelectorAll("main svg")].map(svg => {
    const texts = [...svg.querySelectorAll("text")].filter(text => text.textContent.trim());
    const boxes = texts.map(text => text.getBoundingClientRect()), found = [];
    boxes.forEach((a, i) => boxes.slice(0, i).forEach((b, j) => {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 3) found.push(`${texts[i].textContent} | ${texts[j].textContent}`);
    }));
    return found;
})"""  # letters do not fill their boxes: 3 pixels above and below are air


@pytest.mark.browser
def test_no_text_of_a_figure_lies_on_another_or_leaves_it(browser, tmp_path):
    drawn = figures()
    file = page.render(write(tmp_path, "01_mrl", "minutes", [code("draw()", svg(one)) for one in drawn]))
    with opened(browser, file, viewport={"width": 1280, "height": 800}) as shown:
        assert shown.evaluate(ON_EACH_OTHER) == [[]] * len(drawn)
        outside = """() => [...document.querySelectorAll("main svg text")].filter(text => {
            const inner = text.getBoundingClientRect(), outer = text.closest("svg").getBoundingClientRect();
            return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 1;
        }).map(text => text.textContent)"""
        assert shown.evaluate(outside) == []


def rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(part) / 255 for part in re.findall(r"\d+", colour)[:3])


def brightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour))) / 3


@pytest.mark.browser
@pytest.mark.parametrize(
    ("broken", "by"),
    [
        ("other files", '<img src="https://example.org/x.png" alt="">'),
        ("reports errors", "<script>nothing.there</script>"),
        ("pixels wide", '<div style="width: 5000px">wide</div>'),
        ("letters of", "<style>svg { min-width: 0 !important; width: 200px }</style>"),
        ("pictures are seen", "<style>.mrl-slider > .picture[hidden] { display: block !important }</style>"),
        ("label stays", "<script>addEventListener('input', e => e.stopPropagation(), true)</script>"),
    ],
)
def test_a_broken_page_is_noticed(browser, tmp_path, broken, by):
    file = page.render(write(tmp_path, "01_mrl", "minutes", cells()))
    file.write_text(file.read_text().replace("</main>", f"{by}</main>"))
    with pytest.raises(AssertionError, match=broken):
        assert_page_works(browser, file)
