"""The live panel computes what is chosen, once per rest, says when it is busy, and tells what went wrong."""

import asyncio

import pytest
from matplotlib.figure import Figure

from mrl_lab import explore
from mrl_lab.errors import RequestError
from mrl_lab.explore.live import BUSY, REST


def parts(panel: explore.Live):
    *controls, sign, picture = panel.widget().children
    return controls, sign, picture


def test_it_draws_what_is_chosen_when_it_is_chosen():
    drawn = []
    panel = explore.live(
        lambda query, dim: drawn.append((query, dim)) or f"<p>{query} by {dim}</p>", query=range(3, 9, 2), dim=[2, 4]
    )
    (query, dim), sign, picture = parts(panel)
    assert (query.min, query.max, query.step) == (3, 7, 2)
    assert drawn == [(3, 4)], "the whole at first"
    query.value = 5
    dim.value = 2
    assert drawn[1:] == [(5, 4), (5, 2)]
    assert picture.value == "<p>5 by 2</p>"
    assert sign.value == ""


def test_a_control_that_moves_on_is_waited_for():
    drawn = []
    panel = explore.live(lambda dim: drawn.append(dim) or "x", dim=[1, 2, 3, 4])
    (dim,), _, _ = parts(panel)

    async def drag():
        for value in (3, 2, 1):
            dim.value = value
            await asyncio.sleep(REST / 5)
        assert drawn == [4], "nothing while it moves"
        await asyncio.sleep(2 * REST)

    asyncio.run(drag())
    assert drawn == [4, 1]


def test_the_sign_is_seen_while_it_computes():
    seen = []
    panel = explore.live(lambda dim: seen.append(sign.value if dim == 1 else "") or "x", dim=[1, 2])
    (dim,), sign, _ = parts(panel)
    dim.value = 1
    assert seen == ["", BUSY]


def test_figures_are_pictures_and_errors_are_words():
    panel = explore.live(lambda k: Figure(figsize=(1, 1)) if k == "good" else 1 / 0, k=["good", "<bad>"])
    (k,), _, picture = parts(panel)
    assert picture.value.startswith("<svg role=")
    k.value = "<bad>"
    assert "ZeroDivisionError: division by zero" in picture.value
    k.value = "good"
    assert picture.value.startswith("<svg role=")


def test_an_exported_page_has_the_prepared_slider_in_its_place():
    prepared = explore.slider(lambda dim: f"<p>{dim}</p>", dim=[1, 2])
    bundle = explore.live(lambda dim: "x", dim=[1, 2], instead=prepared)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert 'type="range"' in bundle["text/html"]
    alone = explore.live(lambda dim: "x", dim=[1, 2])._repr_mimebundle_()
    assert "open the notebook in JupyterLab" in alone["text/html"]


@pytest.mark.parametrize("axes", [{}, {"dim": []}, {"query": range(0)}])
def test_a_panel_without_a_choice_is_refused(axes):
    with pytest.raises(RequestError, match="axis"):
        explore.live(lambda **at: "x", **axes)
