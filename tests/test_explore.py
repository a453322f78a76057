"""A slider draws each picture once, says what it shows, and has two faces that need no kernel."""

import re

import pytest
from browser import assert_page_works, opened
from matplotlib.figure import Figure
from small_runs import figure, slider

from mrl_lab import explore
from mrl_lab.errors import RequestError
from mrl_lab.report.faces import WIDGET


def ids(html: str) -> list[str]:
    return re.findall(r'\sid="([^"]+)"', html)


def test_every_pair_is_drawn_once_the_last_axis_fastest():
    drawn = []
    made = explore.slider(lambda layer, dim: drawn.append((layer, dim)) or "x", layer=[1, 2], dim=[2, 4, 8])
    assert drawn == [(1, 2), (1, 4), (1, 8), (2, 2), (2, 4), (2, 8)]
    made.html(), made.widget()
    assert len(drawn) == len(made.pictures) == 6


def test_it_starts_at_the_largest_or_where_it_is_told():
    def starts(start=None, **axes):
        return [axis.values[axis.start] for axis in explore.slider(lambda **at: "x", start=start, **axes).axes]

    assert starts(dim=[8, 64, 2]) == ["64"]
    assert starts(dim=[8, 64, 2], layer=[1, 2], start={"dim": 2}) == ["2", "2"]
    assert starts(method=["MRL", "FF"]) == ["FF"]


def test_axes_are_named_as_everywhere_and_values_are_the_real_ones():
    html = explore.slider(lambda **at: "x", dim=[2, 4], mixing_rate=[0.10, 0.25]).html()
    assert "dims kept, m = <b>4</b>" in html
    assert "mixing rate = <b>0.25</b>" in html
    assert 'aria-label="dims kept, m" aria-valuetext="4"' in html


def test_without_script_the_picture_of_the_start_is_seen_alone():
    made = slider(layer=[1, 2, 3], dim=[2, 4], start={"layer": 2})
    assert re.findall(r'class="picture"><svg role="img" aria-label="([^"]+)"', made.html()) == [
        "layers kept, n = 2, dims kept, m = 4"
    ]


def test_pictures_are_svg_with_text_a_name_and_no_date():
    picture = slider(dim=[2, 4]).pictures[0]
    assert picture.startswith('<svg role="img" aria-label="dims kept, m = 2"')
    assert ">up to 2</text>" in picture
    assert "<metadata" not in picture
    assert picture == slider(dim=[2, 4]).pictures[0]


def test_no_id_is_used_twice_on_a_page_and_each_picture_keeps_its_references():
    made = slider(dim=[2, 4])
    html = made.html() + made.html() + slider(layer=[1, 2], dim=[2, 4]).html()
    assert len(ids(html)) == len(set(ids(html)))
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"|list="([^"]+)"', html))
    assert len(used) > 10
    assert {name for names in used for name in names if name} <= set(ids(html))


def test_pictures_carry_no_id_in_vain_and_no_idle_digits():
    picture = slider(dim=[2]).pictures[0]
    assert ids(picture)
    assert all(f"#{name}" in picture for name in ids(picture))
    assert not re.search(r"\d\.\d{4}", picture)


def test_text_that_looks_like_an_id_stays_as_it_is():
    def draw(dim):
        fig = Figure()
        fig.text(0.5, 0.5, 'say id="x" and url(#y)')
        return fig

    assert 'say id="x" and url(#y)' in explore.slider(draw, dim=[1]).html()


def test_what_is_not_html_is_escaped():
    html = explore.slider(lambda method: "x", method=["<i>", "b"], caption="a < b & c").html()
    assert "<i>" not in html
    assert "a &lt; b &amp; c" in html


def test_a_figure_of_pyplot_is_closed_so_that_it_is_not_shown_again():
    from matplotlib import pyplot

    explore.slider(lambda dim: pyplot.figure(), dim=[2, 4])
    assert pyplot.get_fignums() == []


def test_the_bundle_holds_both_faces():
    bundle = slider(dim=[2, 4])._repr_mimebundle_()
    assert {WIDGET, "text/html", "text/plain"} <= set(bundle)
    assert bundle["text/plain"] == "slider (dims kept, m: 2, 4)"


def test_the_live_face_is_a_stack_for_each_value_of_the_first_axis():
    first, last, stack = slider(layer=[1, 2], dim=[2, 4, 8]).widget().children
    assert [first.label, last.label] == ["2", "8"]
    assert [len(inner.children) for inner in stack.children] == [3, 3]
    assert [stack.selected_index, *(inner.selected_index for inner in stack.children)] == [1, 2, 2]


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({}, "one or two axes"),
        ({"a": [1], "b": [1], "c": [1]}, "got 3"),
        ({"dim": []}, "no values"),
        ({"dim": [2, 4, 2]}, "twice"),
        ({"layer": range(7), "dim": range(9)}, "63 pictures, at most 60"),
        ({"dim": [2], "start": {"dims": 2}}, "Did you mean 'dim'"),
        ({"dim": [2, 4], "start": {"dim": 3}}, "Allowed: 2, 4"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_drawn(axes, says):
    with pytest.raises(RequestError, match=says):
        explore.slider(lambda **at: pytest.fail("drawn"), **axes)


def test_what_is_no_picture_is_refused():
    with pytest.raises(RequestError, match="returned NoneType at dims kept, m = 2"):
        explore.slider(lambda dim: None, dim=[2])


@pytest.fixture
def file(tmp_path):
    """A bare page with three sliders: two of the same, one with two axes."""
    one, two = slider(dim=[2, 4, 8]), slider(layer=[1, 2, 3], dim=[2, 4])
    page = tmp_path / "page.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{one.html()}{one.html()}{two.html()}"
    )
    return page


@pytest.mark.browser
def test_sliders_work_side_by_side_in_any_page(browser, file):
    assert_page_works(browser, file)


@pytest.mark.browser
def test_each_slider_shows_the_picture_of_its_label_and_leaves_the_others_alone(browser, file):
    with opened(browser, file) as page:
        first, second, grid = page.locator(".mrl-slider").all()
        second.locator("input").press("Home")
        layer, dim = grid.locator("input").all()
        layer.press("ArrowLeft")
        dim.press("ArrowLeft")
        seen = [box.locator(".picture:not([hidden]) svg").get_attribute("aria-label") for box in (first, second, grid)]
        assert seen == ["dims kept, m = 8", "dims kept, m = 2", "layers kept, n = 2, dims kept, m = 2"]


@pytest.mark.browser
def test_a_hidden_picture_does_not_break_what_the_seen_one_is_cut_by(browser, tmp_path):
    """The line leaves its axes: where its clip path is lost, its colour is found outside."""
    made = explore.slider(lambda dim: figure(50), dim=[2, 4])
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{made.html()}")
    with opened(browser, file) as page:
        clips = page.evaluate(
            "[...document.querySelectorAll('.picture:not([hidden]) [clip-path]')].map(e => "
            "document.querySelector(e.getAttribute('clip-path').slice(4, -1)).closest('.picture').hidden)"
        )
        assert clips
        assert not any(clips)
