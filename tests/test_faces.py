"""What a cell shows in a file that stands alone: pictures, maths, widgets, and long or restless output."""

import base64
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell
from small_notebooks import run, write
from small_runs import code
from small_runs import write as write_run

from mrl_lab.report import faces, page

DOT = base64.b64decode("R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==")
DATA = f"data:image/gif;base64,{base64.b64encode(DOT).decode()}"


def settled(cell, beside: Path):
    faces.settle(cell, beside, {})
    return cell


def html(folder: Path) -> str:
    return page.render(folder).read_text()


def shown(tmp_path: Path, *outputs: object) -> str:
    """The outputs of one cell on its page."""
    text = html(write_run(tmp_path, "01_mrl", "minutes", [code("x", *outputs)]))
    return text.partition("</details>")[2].partition("</main>")[0]


# ------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("see ![a dot](dot.gif)!", f'see <img src="{DATA}" alt="a dot">!'),
        ('![](my%20dots/dot.gif "titled")', f'<img src="{DATA}" alt="">'),
        ("![](<my dots/dot.gif>)", f'<img src="{DATA}" alt="">'),
        ('<img alt="x" src="dot.gif" width="9">', f'<img alt="x" src="{DATA}" width="9">'),
        ("![](gone.gif)", "<em>(no picture gone.gif beside the notebook)</em>"),
        ("![](secret.txt)", "<em>(no picture secret.txt beside the notebook)</em>"),
        ("`![](dot.gif)` and\n\n```\n![](dot.gif)\n```", "`![](dot.gif)` and\n\n```\n![](dot.gif)\n```"),
        ("![](https://example.org/dot.gif)", "![](https://example.org/dot.gif)"),
        ("![](attachment:dot.gif)", "![](attachment:dot.gif)"),
        ("a! [link](dot.gif)", "a! [link](dot.gif)"),
    ],
)
def test_local_pictures_come_into_the_notebook(text, becomes, tmp_path):
    (tmp_path / "my dots").mkdir()
    for file in ("dot.gif", "my dots/dot.gif", "secret.txt"):
        (tmp_path / file).write_bytes(DOT)
    assert settled(new_markdown_cell(text), tmp_path).source == becomes
    output = code("x", {"text/html": text, "text/plain": "x"})
    assert settled(output, tmp_path).outputs[0].data["text/html"] == becomes


# ---------------------------------------------------------------------------------------------------- maths


@pytest.mark.parametrize(
    "data",
    [
        {"text/latex": "$\\displaystyle x^2$", "text/plain": "<Math object>"},
        {"text/latex": "x^2", "text/plain": "<Latex object>"},
        {"text/latex": "\\begin{equation}x^2\\end{equation}", "text/plain": "<Latex object>"},
        {"text/markdown": "so $x^2$", "text/plain": "<Markdown object>"},
        {"text/markdown": "\\begin{align}a &= b\\\\ x^2 &= d\\end{align}", "text/plain": "<Markdown object>"},
    ],
)
def test_maths_in_outputs_is_maths(data, tmp_path):
    text = shown(tmp_path, data)
    assert re.search(r"<msup><mi>x</mi><mn>2</mn></msup>.*</math>", text)
    assert "object" not in text
    assert "$" not in text


# ------------------------------------------------------------------------------------------------- printing


def test_progress_that_returns_to_the_line_s_begin_is_its_last_state(tmp_path):
    text = shown(tmp_path, *(f"\r{n} %" for n in range(101)), "\ndone\n")
    assert text.count("<pre>") == 1
    assert "100 %\ndone" in text
    assert "99 %" not in text


def test_many_pieces_are_one_text_whichever_stream_they_came_from(tmp_path):
    cell = code("x", *(f"line {n}\n" for n in range(300)))
    for output in cell.outputs[::2]:
        output.name = "stderr"
    text = html(write_run(tmp_path, "01_mrl", "minutes", [cell])).partition("<main>")[2]
    assert text.count("line 2") == 111
    assert text.count("output stream") == 1


@pytest.mark.parametrize(
    "output",
    ["a line\n" * 1_000_000, {"text/plain": "0, " * 1_000_000}, ValueError("x" * 5_000_000)],
    ids=["printed", "shown", "raised"],
)
def test_what_is_long_is_cut_and_says_by_how_much(output, tmp_path):
    text = shown(tmp_path, output)
    assert len(text) < 3 * faces.LONGEST
    assert re.search(
        r"… [\d,]{9} characters(?: in 998,\d{3} lines)? are left out here; notebook.ipynb has them …", text
    )


def test_a_text_of_the_longest_length_is_whole():
    assert faces.shorten("x" * faces.LONGEST) == "x" * faces.LONGEST
    assert "… 1 characters are left out" in faces.shorten("x" * (faces.LONGEST + 1))


# -------------------------------------------------------------------------------------------------- widgets


def test_a_widget_with_another_face_shows_that_and_one_without_shows_what_is_in_it(tmp_path):
    view = {faces.WIDGET: {"model_id": "box"}, "text/plain": "interactive(...)"}
    cell = code("x", view | {"text/html": "<b>slider</b>"}, view)
    inner = {"state": {"outputs": [{"output_type": "stream", "name": "stdout", "text": "8\n"}]}}
    faces.settle(cell, tmp_path, {"box": {"state": {"children": ["IPY_MODEL_out"]}}, "out": inner})
    first, second, third = cell.outputs
    assert first.data == {"text/plain": "interactive(...)", "text/html": "<b>slider</b>"}
    assert second.data == {"text/plain": faces.LIVE}
    assert third.text == "8\n"
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))


def test_a_cell_that_was_not_run_and_one_of_raw_text_stay_as_they_are(tmp_path):
    for cell in (new_code_cell("x"), nbformat.v4.new_raw_cell("![](a.png)")):
        before = dict(cell)
        assert dict(settled(cell, tmp_path)) == before


# ------------------------------------------------------------------------------------------- through a kernel


@pytest.mark.slow
def test_a_run_with_interact_a_picture_and_maths_has_them_on_its_page(tmp_path):
    notebooks = tmp_path / "notebooks"
    write(
        notebooks,
        "00_faces",
        "import ipywidgets\nipywidgets.interact(lambda x: x * 1002, x=4)",
        "from IPython.display import HTML, Math\ndisplay(Math('x^2'), HTML('<img src=\"dot.gif\">'))",
    )
    (notebooks / "dot.gif").write_bytes(DOT)
    done = run(notebooks, "run", "00", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "00_faces" / "seconds" / "page.html").read_text()
    for part in (faces.LIVE, "4008", DATA, "<msup>"):
        assert part in text
    assert "interactive(" not in text.partition("</details>")[2]
