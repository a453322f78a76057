"""LaTeX in Markdown to MathML, which browsers draw by themselves: the page needs no MathJax and no network."""

from __future__ import annotations

import re
from html import escape

CODE = r"(?P<code>^(?P<fence>```+|~~~+).*?^(?P=fence)\s*?$|(?P<tick>`+)(?!`).+?(?<!`)(?P=tick)(?!`)|\\\$)"
# Code first, so that a dollar in it stays one. A lone $ opens maths only before a non-blank, as in pandoc.
PARTS = re.compile(
    rf"{CODE}"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?P<environment>\\begin\{(?P<name>\w+\*?)\}.+?\\end\{(?P=name)\})"
    r"|\$(?P<inline>(?![\s$])(?:\\.|[^$\\\n]|\n(?!\s*\n))+?)(?<!\s)\$(?!\d)",  # within one paragraph
    re.DOTALL | re.MULTILINE,
)
MARKDOWN = {ord(mark): f"&#{ord(mark)};" for mark in "*_|`~[]\\"}  # what Markdown would still read as its own


def to_mathml(markdown: str) -> str:
    """Return Markdown with each ``$...$``, ``$$...$$`` and ``\\begin...\\end`` outside code as a ``<math>`` element."""
    return PARTS.sub(lambda found: found[0] if found["code"] else _convert(found), markdown)


def _convert(found: re.Match) -> str:
    from latex2mathml.converter import convert

    block = found["block"] or found["environment"]
    latex, display = (block, "block") if block else (found["inline"], "inline")
    try:
        made = convert(latex.strip(), display=display)
    except Exception:  # latex2mathml has no common error; what it cannot read is shown as it was written
        return f"<code>{escape(found[0])}</code>".translate(MARKDOWN)
    return made.translate(MARKDOWN).replace("\n", " ")
