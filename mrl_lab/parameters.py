"""The parameters cell of a notebook is its form: names, kinds, defaults, help and rules, read without running it.

Each line is an annotated literal with a comment. The comment is the help; what follows its last ``;`` is the
rule that every value must keep::

    budget: str = "seconds"  # how much work; one of seconds, minutes, hour
    dataset: str = "digits"  # pictures to learn from; one of digits, cifar10, or a path to your own .npz
    dim: int = 64  # width d of the embedding; from 2 to 4096
    sizes: list[int] = []  # sizes M, rising, empty: halvings of dim; each from 1 to dim
    lr: float = 0.0  # peak learning rate, 0: what the budget says; above -1
    backbone: str = "none"  # a model to begin with; one of none, or a path to a folder or a hub name

A bound is a number or the name of another parameter. Values from the command line are text and are read by
kind; a list is written ``8,16,32`` or ``[8, 16, 32]``.
"""

from __future__ import annotations

import ast
import io
import math
import os
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mrl_lab.cuts import check_sizes
from mrl_lab.errors import RequestError, unknown

Value = bool | int | float | str | list[int] | list[float] | list[str]
SCALARS = {"bool": bool, "int": int, "float": float, "str": str}
LISTS = {f"list[{kind}]": kind for kind in ("int", "float", "str")}
KINDS = {**SCALARS, **dict.fromkeys(LISTS, list)}
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # owner/model
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?")
RULE = re.compile(
    r"(?P<each>each )?"
    r"(?:one of (?P<names>.+?)(?P<path>,? or a path .+)?|from (?P<low>\S+) to (?P<high>\S+)|above (?P<above>\S+))"
)


@dataclass(frozen=True)
class Rule:
    """What a value must keep: one of ``names``, or a range; bounds are numbers or parameter names.

    ``path`` says what else than a name it may be: "file" or "folder", which must exist; a "hub name" has its owner.
    """

    text: str
    each: bool = False
    names: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    low: str | None = None
    high: str | None = None
    above: str | None = None


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell."""

    name: str
    kind: str
    default: Value
    help: str
    rule: Rule | None = None


# ------------------------------------------------------------------------------------------- reading the cell


def read(source: str) -> list[Parameter]:
    """Return the parameters of a cell's source, in its order.

    Raises:
        RequestError: a line that is no annotated literal of a known kind, or a rule that cannot be read.
    """
    body = ast.parse(source).body  # before the comments: its error for what is no Python is a SyntaxError
    comments = _comments(source)
    found = []
    for node in body:
        line = ast.unparse(node)
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            raise RequestError(f"a parameters cell holds annotated literals such as 'dim: int = 64', got: {line}")
        found.append(_parameter(node, comments.get(node.end_lineno or 0, "")))
    _check_bounds(found)
    return found


def _comments(source: str) -> dict[int, str]:
    """Return {line number: the comment on that line, without its hash}."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ").rstrip() for t in tokens if t.type == tokenize.COMMENT}


def _parameter(node: ast.AnnAssign, comment: str) -> Parameter:
    name, kind = node.target.id, ast.unparse(node.annotation)
    if kind not in KINDS:
        raise unknown(f"kind of parameter {name!r}:", kind, KINDS)
    try:
        default = ast.literal_eval(node.value)
    except ValueError:
        raise RequestError(f"the default of parameter {name!r} is no literal: {ast.unparse(node.value)}") from None
    text, _, rule = comment.rpartition(";")
    parameter = Parameter(name, kind, default, (text or rule).strip(), _rule(name, rule.strip()) if text else None)
    return Parameter(name, kind, of_kind(parameter, default), parameter.help, parameter.rule)


def _rule(name: str, text: str) -> Rule:
    match = RULE.fullmatch(text)
    if not match:
        forms = "'one of A, B', 'one of A, B, or a path to ...', 'from A to B', 'above A', 'each ...'"
        raise RequestError(f"cannot read the rule of parameter {name!r}: {text!r}. A rule is {forms}.")
    part = match.groupdict()
    names = tuple(n.strip() for n in (part["names"] or "").split(",") if n.strip())
    bounds = {key: part[key] for key in ("low", "high", "above")}
    return Rule(text, each=bool(part["each"]), names=names, path=_paths(part["path"] or ""), **bounds)


def _paths(text: str) -> tuple[str, ...]:
    """Return the kinds of path that the words after the names allow: a file where they speak of nothing else."""
    kinds = tuple(kind for kind in ("folder", "file", "hub name") if kind in text)
    return kinds if kinds or not text else ("file",)


def _check_bounds(parameters: Sequence[Parameter]) -> None:
    names = {p.name for p in parameters}
    for p in parameters:
        for bound in (p.rule.low, p.rule.high, p.rule.above) if p.rule else ():
            if bound and bound not in names and not NUMBER.fullmatch(bound):
                raise RequestError(
                    f"the rule of parameter {p.name!r} names {bound!r}, which is no number or parameter."
                )


# ------------------------------------------------------------------------------------------ reading the values


def parse(parameter: Parameter, text: str) -> Value:
    """Return the value that ``text`` from the command line means for this parameter.

    Raises:
        RequestError: text that is not of the parameter's kind.
    """
    if parameter.kind not in LISTS:
        return _scalar(parameter, parameter.kind, text)
    items = text.strip().removeprefix("[").removesuffix("]")
    return [_scalar(parameter, LISTS[parameter.kind], item) for item in items.split(",")] if items.strip() else []


def parse_grid(parameter: Parameter, text: str) -> list[Value]:
    """Return the values of a grid: separated by commas; for a parameter that is a list, by semicolons.

    Raises:
        RequestError: an empty grid, an empty or repeated value, or one of the wrong kind.
    """
    separator = ";" if parameter.kind in LISTS else ","
    texts = [part.strip() for part in text.split(separator)]
    if not all(texts):
        example = f"--grid {parameter.name}=VALUE{separator}VALUE"
        raise RequestError(f"the grid of {parameter.name!r} is empty or has an empty value: {text!r}. Write {example}.")
    values = [parse(parameter, part) for part in texts]
    repeated = [v for i, v in enumerate(values) if v in values[:i]]
    if repeated:
        raise RequestError(f"the grid of {parameter.name!r} repeats {repeated[0]!r}: give each value once.")
    return values


def _scalar(parameter: Parameter, kind: str, text: str) -> Value:
    text = text.strip().strip("'\"") if kind == "str" else text.strip()
    try:
        value = TRUTH[text.lower()] if kind == "bool" else SCALARS[kind](text)
    except (KeyError, ValueError):
        raise _wrong_kind(parameter, text) from None
    if kind == "float" and not math.isfinite(value):
        raise _wrong_kind(parameter, text)
    return value


def of_kind(parameter: Parameter, value: object) -> Value:
    """Return ``value`` if it is of the parameter's kind; a whole number passes as a float.

    Raises:
        RequestError: it is of another kind.
    """
    items = value if parameter.kind in LISTS and isinstance(value, list) else [value]
    wanted = SCALARS[LISTS.get(parameter.kind, parameter.kind)]
    fits = [type(v) is wanted or (wanted is float and type(v) is int) for v in items]
    if not all(fits) or (parameter.kind in LISTS) != isinstance(value, list):
        raise _wrong_kind(parameter, value)
    return float(value) if parameter.kind == "float" else value


def _wrong_kind(parameter: Parameter, given: object) -> RequestError:
    form = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}.get(parameter.kind)
    form = form or f"a list such as 8,16,32 ({parameter.kind})"
    return RequestError(f"parameter {parameter.name!r} is {form}, got {given!r} (default: {parameter.default!r}).")


# ------------------------------------------------------------------------------------------ keeping the rules


def named(parameters: Iterable[Parameter]) -> dict[str, Parameter]:
    """Return {name: parameter}."""
    return {p.name: p for p in parameters}


def check(parameters: Sequence[Parameter], values: Mapping[str, Value]) -> None:
    """Hold a full setting against all rules.

    Raises:
        RequestError: the first value that breaks its rule, with what is allowed.
    """
    for parameter in parameters:
        if parameter.rule:
            value = values[parameter.name]
            for item in value if isinstance(value, list) else [value]:
                _check_item(parameter, item, values)
            if parameter.rule.each and parameter.kind == "list[int]" and value:
                _check_rising(parameter, value)


def _check_item(parameter: Parameter, item: Value, values: Mapping[str, Value]) -> None:
    rule = parameter.rule
    if rule.names:
        _check_name(parameter, item)
        return
    low, high, above = (_bound(b, values) for b in (rule.low, rule.high, rule.above))
    too_low = (low is not None and item < low) or (above is not None and item <= above)
    if too_low or (high is not None and item > high):
        meaning = "".join(f" ({b} is {values[b]})" for b in (rule.low, rule.high, rule.above) if b in values)
        raise RequestError(f"parameter {parameter.name!r} is {rule.text}{meaning}, got {values[parameter.name]!r}.")


def _check_name(parameter: Parameter, item: Value) -> None:
    rule = parameter.rule
    there = {"file": os.path.isfile, "folder": os.path.isdir, "hub name": HUB_NAME.fullmatch}
    if item in rule.names or any(there[kind](item) for kind in rule.path):
        return
    if rule.path and ("/" in str(item) or Path(str(item)).suffix):
        kinds = " or ".join(rule.path)
        raise RequestError(f"parameter {parameter.name!r}: there is no {kinds} {str(item)!r}. It is {rule.text}.")
    also = [f"or a path to a {' or a '.join(rule.path)}"] if rule.path else []
    raise unknown(parameter.name, item, [*rule.names, *also])


def _bound(text: str | None, values: Mapping[str, Value]) -> float | None:
    """Return a bound as a number: written out, or the value of another parameter."""
    if text is None:
        return None
    return values[text] if text in values else float(text)


def _check_rising(parameter: Parameter, value: list[int]) -> None:
    try:
        check_sizes(value, max(value))
    except RequestError as error:
        raise RequestError(f"parameter {parameter.name!r}: {error}") from None
