"""The parameters cell: read, filled in from text, held against its rules."""

import pytest

from mrl_lab import parameters
from mrl_lab.errors import RequestError
from mrl_lab.parameters import check, named, parse, parse_grid, read

CELL = """\
# a line that is a comment only
budget: str = "seconds"  # how much work; one of seconds, minutes, hour
dataset: str = "digits"  # pictures; to learn from; one of digits, cifar10, or a path to your own .npz
dim: int = 64  # width d of the embedding; from 2 to 4096
sizes: list[int] = []  # sizes M, empty: halvings of dim; each from 1 to dim
methods: list[str] = ["mrl"]  # which; each one of mrl, mrl_e
weights: list[float] = [1.0, 0.5]  # c_m; each above 0
lr: float = 0  # peak learning rate; from 0 to 1e1
cosine: bool = True  # fall to zero
note: str = "a # and a ; in a text"  # printed on top
"""
FORM = read(CELL)
DEFAULTS = {p.name: p.default for p in FORM}


def test_read_gives_names_kinds_defaults_and_help():
    found = named(FORM)
    assert list(found) == ["budget", "dataset", "dim", "sizes", "methods", "weights", "lr", "cosine", "note"]
    assert found["sizes"].kind == "list[int]"
    assert found["sizes"].help == "sizes M, empty: halvings of dim"
    assert found["dataset"].help == "pictures; to learn from"
    assert found["dataset"].rule.names == ("digits", "cifar10")
    assert found["dataset"].rule.path
    assert (found["cosine"].rule, found["cosine"].help) == (None, "fall to zero")
    assert found["note"].default == "a # and a ; in a text"
    assert isinstance(found["lr"].default, float)


def test_the_defaults_keep_the_rules():
    check(FORM, DEFAULTS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dim = 64  # width", "annotated"),
        ("dim: int = 8 * 8  # width", "no literal"),
        ("dim: complex = 1  # width", "complex"),
        ('dim: int = "64"  # width', "whole number"),
        ("dim: int = True  # width", "whole number"),
        ("sizes: list[int] = [1, 2.5]  # sizes", "list"),
        ("dim: int = 64  # width; between 1 and 3", "between 1 and 3"),
        ("dim: int = 64  # width; from 1 to width", "'width'"),
        ("import os", "import os"),
    ],
)
def test_a_line_that_is_no_parameter_is_refused(line, words):
    with pytest.raises(RequestError, match=words):
        read(line)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("dim", "128", 128),
        ("lr", "1e-3", 0.001),
        ("lr", "2", 2.0),
        ("budget", "minutes", "minutes"),
        ("cosine", "False", False),
        ("cosine", "yes", True),
        ("sizes", "8,16, 32", [8, 16, 32]),
        ("sizes", "[8, 16, 32]", [8, 16, 32]),
        ("sizes", "[]", []),
        ("sizes", "", []),
        ("methods", "['mrl', 'mrl_e']", ["mrl", "mrl_e"]),
        ("weights", "1,0.5", [1.0, 0.5]),
    ],
)
def test_text_becomes_a_value_of_its_kind(name, text, value):
    found = parse(named(FORM)[name], text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("dim", "8.5"), ("dim", "x"), ("lr", "nan"), ("lr", "inf"), ("cosine", "maybe"), ("sizes", "8;9")],
)
def test_text_of_another_kind_is_refused_by_name(name, text):
    with pytest.raises(RequestError, match=f"{name!r}.*default"):
        parse(named(FORM)[name], text)


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [("dim", "8, 16", [8, 16]), ("sizes", "8,16;32", [[8, 16], [32]]), ("budget", "seconds", ["seconds"])],
)
def test_a_grid_is_a_list_of_values(name, text, values):
    assert parse_grid(named(FORM)[name], text) == values


@pytest.mark.parametrize("text", ["", " ", "8,,16", "8,", "8,16,8", "8,08"])
def test_a_grid_that_is_empty_or_repeats_is_refused(text):
    with pytest.raises(RequestError, match="grid of 'dim'"):
        parse_grid(named(FORM)["dim"], text)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("budget", "minuts", "Did you mean 'minutes'"),
        ("dataset", "digts", "Did you mean 'digits'.*path"),
        ("dataset", "my/own.npz", "no file 'my/own.npz'"),
        ("dim", 1, "from 2 to 4096, got 1"),
        ("dim", 4097, "from 2 to 4096"),
        ("sizes", [8, 65], r"from 1 to dim \(dim is 64\)"),
        ("sizes", [0, 8], "from 1 to dim"),
        ("sizes", [16, 8], r"write \[8, 16\]"),
        ("sizes", [8, 8], "not repeat"),
        ("methods", ["mrl", "mrle"], "Did you mean 'mrl_e'"),
        ("weights", [1.0, 0.0], "above 0"),
        ("lr", 10.5, "from 0 to 1e1"),
    ],
)
def test_a_value_that_breaks_its_rule_is_refused(name, value, words):
    with pytest.raises(RequestError, match=words):
        check(FORM, DEFAULTS | {name: value})


def test_a_bound_follows_the_other_parameter():
    check(FORM, DEFAULTS | {"dim": 128, "sizes": [8, 128]})


def test_a_file_of_ones_own_passes_where_the_rule_allows_a_path(tmp_path):
    mine = tmp_path / "mine.npz"
    mine.touch()
    check(FORM, DEFAULTS | {"dataset": str(mine)})
    with pytest.raises(RequestError):
        check(FORM, DEFAULTS | {"budget": str(mine)})


def test_a_folder_or_a_hub_name_passes_where_the_rule_allows_it(tmp_path):
    (tmp_path / "file").touch()
    form = read('backbone: str = "none"  # begins with; one of none, or a path to a folder or a hub name')
    for given in (str(tmp_path), "owner/model-v1.5", "none"):
        check(form, {"backbone": given})
    for given, words in [
        (str(tmp_path / "file"), "no folder or hub name"),
        (f"{tmp_path}/gone", "no folder or hub name"),
        ("nnoe", "Did you mean 'none'.*or a path to a folder or a hub name"),
        ("../gone", "no folder"),
    ]:
        with pytest.raises(RequestError, match=words):
            check(form, {"backbone": given})
    several = "list[str] = []  # models; each one of none, or a path to a folder, a .pth file or a hub name"
    check(read(f"weights: {several}"), {"weights": [str(tmp_path / "file"), str(tmp_path), "owner/model"]})
    folder = read('weights: str = "none"  # begins with; one of none, or a path to a folder')
    check(folder, {"weights": str(tmp_path)})
    with pytest.raises(RequestError, match="no folder 'owner/model'"):
        check(folder, {"weights": "owner/model"})


def test_every_rule_form_is_known():
    texts = ["one of a", "one of a, b or a path to c", "from 0 to dim", "above 0.5", "each one of a, b", "each above 1"]
    for text in texts:
        assert parameters.RULE.fullmatch(text), text
