"""Keys that tell the truth: all that a result depends on, as plain values that can be digested.

A result stands on code and on values. Code of this package counts by the *import closure* of its module: the text of
every module that it reaches, so that a commit elsewhere leaves the result valid. Code typed in a notebook counts by
what it does: its byte code, its defaults, and whatever it reads of its surroundings, followed further. Values count by
content: data by the key they carry, weights and tensors by their bytes, a file or a folder by what it holds.

What cannot be told apart is refused. A key that is guessed would one day return the result of other code.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import json
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from mrl_lab import FACE, files
from mrl_lab.errors import RequestError

PACKAGE = Path(__file__).parent
NAME = PACKAGE.name


def _modules(*names: str) -> frozenset[str]:
    return frozenset(f"{NAME}{name and '.'}{name}" for name in names)


# Neither a number nor a drawing depends on these: they run and describe notebooks and make pages of them, or find files
# whose checksums are in the key of the data.
AROUND = _modules("", "__main__", "check", "cli", "errors", "files", "parameters", "report", "source", "workers") | (
    _modules("data.catalogue", "data.fetch", "data.places", "data.sources")
)
# And no number depends on these, which remember, show and judge.
ASIDE = AROUND | _modules("claims", "desk", "explore", "keys", "lab", "plots", "protocol", "runs", "verdicts")
CACHED = type(cache(id))
PLAIN = (str, int, float, bool, type(None))
OF_A_CLASS = frozenset(  # what every class carries, and what changes nothing that it computes
    {"__annotations__", "__dict__", "__doc__", "__firstlineno__", "__match_args__", "__module__", "__parameters__"}
    | {"__dataclass_fields__", "__dataclass_params__", "__static_attributes__", "__weakref__", "_abc_impl"}
    | {
        "__abstractmethods__",
        "__slotnames__",
        "__protocol_attrs__",
        "_is_protocol",
        "_is_runtime_protocol",
        "__replace__",
    }
)


def digest(value: object) -> str:
    """Return a SHA-256 of :func:`describe`."""
    return hashlib.sha256(json.dumps(describe(value), sort_keys=True).encode()).hexdigest()


def describe(value: object, seen: frozenset[int] = frozenset()) -> object:
    """Return what tells ``value`` from others, as JSON can hold it.

    Plain values stand for themselves; data (whatever has a ``key``) for that; tensors and arrays for their bytes; paths
    for the files there; functions and classes for their code; other objects for their class and all that they hold.

    Raises:
        RequestError: a value of which nothing tells whether it has changed.
    """
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (list, tuple, range)):
        return [describe(item, seen) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(describe(item, seen)) for item in value)
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: describe(item, seen) for name, item in value.items()}
    if isinstance(value, Mapping):
        return [[describe(name, seen), describe(item, seen)] for name, item in value.items()]
    if isinstance(value, Path):
        return {"files": files.content(value)}
    if isinstance(value, ModuleType):
        return value.__name__
    return _code(value, seen) if _is_code(value) else _object(value, seen)


def _is_code(value: object) -> bool:
    kinds = (type, FunctionType, MethodType, BuiltinFunctionType, partial, staticmethod, classmethod, CACHED)
    installed = hasattr(value, "__qualname__") and _installed(getattr(value, "__module__", None) or "")
    return isinstance(value, kinds) or installed  # such as numpy's functions, which are of a kind of their own


def _object(value: Any, seen: frozenset[int]) -> object:
    if hasattr(value, "numpy") or hasattr(value, "tobytes"):
        return _bytes(value)
    if hasattr(value, "to_csv"):
        return hashlib.sha256(value.to_csv().encode()).hexdigest()
    kind = type(value)
    if "key" in dir(value):
        return {"kind": code(kind, seen), "key": describe(value.key, seen)}
    if _installed(kind.__module__) or hasattr(value, "state_dict") or not hasattr(value, "__dict__"):
        raise RequestError(
            f"nothing tells whether {value!r:.80} has changed, so no result can be kept under it: give plain values, "
            "dataclasses, tensors, paths, or an object with a key."
        )
    return {"kind": code(kind, seen), "holds": describe(vars(value), seen)}


def _bytes(value) -> str:
    """SHA-256 of a tensor or an array with its shape and type."""
    array = value.detach().cpu() if hasattr(value, "detach") else value
    if hasattr(array, "view") and str(array.dtype) == "torch.bfloat16":
        array = array.float()  # NumPy has no bfloat16; exact
    array = array.numpy() if hasattr(array, "numpy") else array
    total = hashlib.sha256(f"{value.dtype} {tuple(value.shape)}".encode())
    total.update(array.tobytes())
    return total.hexdigest()


# --------------------------------------------------------------------------------------------------- code


def code(thing: Any, seen: frozenset[int] = frozenset()) -> object:
    """Return what a class or a function does: see the head of this module.

    Of this package the import closure counts; of an installed one the name alone.
    """
    module = getattr(thing, "__module__", None) or ""
    name = f"{module}.{getattr(thing, '__qualname__', thing)}"
    if module.split(".")[0] == NAME:
        return {"name": name, "closure": closure(module)}
    return name if isinstance(thing, BuiltinFunctionType) or _installed(module) else body(thing, seen)


def _code(value: object, seen: frozenset[int]) -> object:
    if isinstance(value, (staticmethod, classmethod)):
        return _code(value.__func__, seen)
    if isinstance(value, CACHED):
        return code(value.__wrapped__, seen)
    if isinstance(value, partial):
        return [describe(part, seen) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, MethodType):
        return [describe(value.__self__, seen), code(value.__func__, seen)]
    return code(value, seen)


def body(thing: Any, seen: frozenset[int] = frozenset()) -> object:
    """Return what a class or a function does by its own byte code and by all that this reads, wherever it stands."""
    if id(thing) in seen:
        return f"again: {thing.__qualname__}"
    seen = seen | {id(thing)}
    if isinstance(thing, type):
        parts = {name: part for name, part in vars(thing).items() if name not in OF_A_CLASS}
        bases = [code(base, seen) for base in thing.__bases__ if base is not object]
        return {"class": thing.__qualname__, "bases": bases, "parts": _parts(parts, seen)}
    cells = [cell.cell_contents for cell in thing.__closure__ or ()]
    given = [describe(part, seen) for part in (thing.__defaults__, thing.__kwdefaults__, cells)]
    return {"code": _byte_code(thing.__code__), "given": given, "reads": _parts(_read_by(thing), seen)}


def _parts(parts: Mapping[str, object], seen: frozenset[int]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, part in parts.items():
        if isinstance(part, property):
            found[name] = [describe(f, seen) for f in (part.fget, part.fset) if f]
        elif type(part).__name__ in ("member_descriptor", "getset_descriptor", "wrapper_descriptor"):
            continue  # a slot: its name is in the class's code
        else:
            found[name] = describe(part, seen)
    return found


def _read_by(function: FunctionType) -> dict[str, object]:
    """Return the globals that a function reads; of a module of this package, what is taken out of it."""
    codes = list(_nested(function.__code__))
    read = {i.argval for one in codes for i in dis.get_instructions(one) if i.opname == "LOAD_GLOBAL"}
    found = {name: function.__globals__[name] for name in sorted(read) if name in function.__globals__}
    taken = {name for one in codes for name in one.co_names}
    for name, value in list(found.items()):
        if isinstance(value, ModuleType) and value.__name__.split(".")[0] == NAME:
            parts = {f"{name}.{part}": getattr(value, part) for part in sorted(taken) if hasattr(value, part)}
            found |= {part: thing for part, thing in parts.items() if _is_code(thing)}
            found[name] = closure(value.__name__)
    return found


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _nested(const)


def _byte_code(code: CodeType) -> list:
    consts = [_byte_code(c) if isinstance(c, CodeType) else _constant(c) for c in code.co_consts]
    return [code.co_code.hex(), consts, code.co_names, code.co_varnames, code.co_freevars]


def _constant(value: object) -> str:
    return f"set of {sorted(map(repr, value))}" if isinstance(value, frozenset) else repr(value)


@cache
def _installed(module: str) -> bool:
    """True for modules of the standard library and of installed packages, of which the name is enough."""
    if module == "__main__" or module not in sys.modules:
        return False
    file = getattr(sys.modules[module], "__file__", None)
    places = {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return file is None or any(Path(file).is_relative_to(place) for place in places)


# ------------------------------------------------------------------------------------------------ closures


@cache
def closure(module: str) -> str:
    """Return a SHA-256 over the text of a module of this package and of all that it imports of the package."""
    return _over(reached(frozenset({module})))


def behind(cells: Iterable[str]) -> str:
    """Return a SHA-256 over the text of all that a notebook's code cells import, to compute, to judge and to draw.

    Cells that cannot be read might import anything, so for them the whole package counts.
    """
    lines = re.sub(r"^(\s*)[%!].*", r"\1pass", "\n".join(cells), flags=re.MULTILINE)  # magics
    try:
        first = _imported(ast.parse(lines))
    except SyntaxError:
        first = frozenset(
            ".".join([NAME, *f.relative_to(PACKAGE).with_suffix("").parts]) for f in PACKAGE.rglob("*.py")
        )
    return _over(reached(first, AROUND))


def _over(modules: frozenset[str]) -> str:
    total = hashlib.sha256()
    for name in sorted(modules):
        total.update(name.encode() + b"\0" + _text_of(name).encode() + b"\0")
    return total.hexdigest()


@cache
def reached(modules: frozenset[str], aside: frozenset[str] | None = None) -> frozenset[str]:
    """Return modules and all of this package that they import, directly or not, but for those ``aside`` (ASIDE)."""
    aside = ASIDE if aside is None else aside
    found, waiting = set(), set(modules)
    while waiting:
        name = waiting.pop()
        top = ".".join(name.split(".")[:2])
        if name in found or {name, top} & aside or not _file(name):
            continue
        found.add(name)
        waiting |= {*_imports(name), name.rpartition(".")[0]}
    return frozenset(found)


def _file(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.split(".")[1:])
    return next((f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file() and base != PACKAGE), None)


def _text_of(module: str) -> str:
    file = _file(module)
    return file.read_text(encoding="utf-8") if file else ""


@cache
def _imports(module: str) -> frozenset[str]:
    return _imported(ast.parse(_text_of(module)))


def _imported(code: ast.AST) -> frozenset[str]:
    """Return what code imports of this package, whole or by parts; imports for type checkers alone do not count.

    A part of the package's face is imported from the module that has it.
    """
    nodes = list(_at_run_time(code))
    known = {NAME: NAME} | {name: home for node in nodes for name, home in _bound(node)}
    chains = [_chain(node) for node in nodes if isinstance(node, ast.Attribute)]
    parts = {".".join([known[first], *rest]) for first, *rest in filter(None, chains) if first in known}
    return frozenset(_home(name) for name in {*known.values(), *parts} if name.startswith(f"{NAME}."))


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (the name that an import gives to a thing, what it is a name of)."""
    if isinstance(node, ast.Import):
        yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module, node.module
        yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def _chain(node: ast.expr) -> list[str]:
    """Return ["lab", "methods", "mrl"] for ``lab.methods.mrl``; empty for what does not begin with a name."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def _home(name: str) -> str:
    """Return where a name of the package's face is at home, and others as they are."""
    top, *rest = name.split(".")[1:]
    home = FACE.get(top, top)
    return ".".join([NAME, home, *(rest if home == top else ())])


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _at_run_time(child)
