"""Maths in Markdown becomes MathML, and nothing else changes."""

import re

import pytest

from mrl_lab.report.maths import to_mathml


@pytest.mark.parametrize(
    "text",
    [
        "it costs $5 and then $6 more",
        "`$HOME` and ``a ` $b$``",
        "```\n$a$\n```",
        "~~~~ sh\necho $a $b\n~~~~",
        r"an escaped \$5 and \$6",
        "$a\n\nb$ is in two paragraphs",
        "no maths",
    ],
)
def test_a_dollar_that_is_no_maths_stays(text):
    assert to_mathml(text) == text


def test_inline_and_block():
    made = to_mathml("from $x$ to\n\n$$\nL = \\sum_{m \\in M} c_m\n$$\n\nand $z_{1:m}$.")
    assert re.findall(r"<math [^>]*?display=\"(\w+)\"", made) == ["inline", "block", "inline"]
    assert "$" not in made
    assert made.endswith("</math>.")


def test_nothing_is_left_that_markdown_would_read_as_its_own():
    made = to_mathml("| a | b |\n|--|--|\n| $|x| * y_1 * z_2$ | $a [b] (c)$ |")
    row = made.splitlines()[-1]
    assert row.count("|") == 3
    assert not set("*_[]`") & set(re.sub(r"<[^>]*>", "", row))


def test_what_cannot_be_read_is_shown_as_it_was_written():
    assert to_mathml(r"$\left( <b>_1$") == "<code>$&#92;left( &lt;b&gt;&#95;1$</code>"
