"""``mrl-lab``: from the words of a command to what does it, its exit status, and errors said to a person."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from mrl_lab import source
from mrl_lab.errors import RequestError
from mrl_lab.report import notebooks, streams
from mrl_lab.report.notebooks import Notebook

DONE, FAILED, WRONG, STOPPED = 0, 1, 2, 130

EXAMPLES = """examples:
  mrl-lab check                                    is all that is needed there?
  mrl-lab list                                     the notebooks, their parameters and minutes
  mrl-lab data list                                data and weights: where each is, or how it will be had
  mrl-lab data get --all                           get what is not here yet
  mrl-lab run 01                                   one notebook, at budget seconds
  mrl-lab run --all --budget minutes --jobs 2      all of them, two at a time
  mrl-lab run 01 -p dim 32 --grid seeds=3,5        one page for each point of the grid
  mrl-lab run --all --scheduler tcp://host:8786    on the workers of a Dask cluster

exit status: 0 done, 1 a notebook failed or a check did, 2 the request was wrong (nothing was run), 130 stopped"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are request errors, as all others."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}. See: {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    streams.steady()
    parser = _parser()
    try:
        asked = parser.parse_args(arguments)
        if asked.command is None:
            parser.print_help()
            return WRONG
        return asked.do(asked)
    except RequestError as error:
        print(f"mrl-lab: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("\nmrl-lab: stopped; nothing half-written is left. The same command again continues.", file=sys.stderr)
        return STOPPED


def _parser() -> Parser:
    parser = Parser(
        prog="mrl-lab",
        description="check the machine, list the notebooks, run them into pages, render pages again, measure speed",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, do, text: str) -> Parser:
        made = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.set_defaults(do=do)
        return made

    out = {"type": Path, "metavar": "DIR", "default": _default_out(), "help": "where runs are (%(default)s)"}
    command("check", _check, "see whether all that is needed is there").add_argument("--out", **out)
    data = command("data", _data, "see what data and weights there are, and get them")
    data.add_argument("what", choices=("list", "get"), help="a row a set, or fetch some")
    data.add_argument("names", nargs="*", metavar="NAME", help="sets to get")
    data.add_argument("--all", action="store_true", help="all sets")
    command("list", _list, "show the notebooks").add_argument("--json", action="store_true", help="for programs")
    run = command("run", _run, "run notebooks and make their pages")
    run.add_argument("names", nargs="*", metavar="NAME", help="a notebook, or the start of its name")
    run.add_argument("--all", action="store_true", help="all notebooks")
    run.add_argument("--budget", metavar="B", help="the one dial: the same as -p budget B")
    run.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    run.add_argument("--grid", action="append", default=[], metavar="NAME=V1,V2", help="run each of these values")
    beside = run.add_mutually_exclusive_group()
    beside.add_argument("--jobs", type=int, default=1, metavar="N", help="how many at once; they share the cores (1)")
    beside.add_argument("--scheduler", metavar="ADDRESS", help="run on the Dask cluster whose scheduler is there")
    run.add_argument("--out", **out)
    run.add_argument("--fresh", action="store_true", help="do not reuse finished runs or cached results")
    pages = command("pages", _pages, "render pages and the index again")
    pages.add_argument("--prose", action="store_true", help="with the notebooks' words of today, where their code ran")
    pages.add_argument("--out", **out)
    bench = command("bench", _bench, "measure speed side by side with the plain way and with peers")
    bench.add_argument("names", nargs="*", metavar="NAME", help="which to measure (all)")
    bench.add_argument("--out", type=Path, metavar="DIR", help="also save bench.csv there")
    return parser


def _default_out() -> Path:
    root = source.checkout()
    return root / "reports" if root else Path("reports")


# ----------------------------------------------------------------------------------------------------- check


def _check(asked: argparse.Namespace) -> int:
    from mrl_lab import check

    return DONE if check.main(asked.out) else FAILED


# ------------------------------------------------------------------------------------------------------ list


def _list(asked: argparse.Namespace) -> int:
    known, broken = notebooks.survey()
    found = known.values()
    print(json.dumps([_as_json(n) for n in found], indent=2) if asked.json else "\n\n".join(map(_as_text, found)))
    _warn(broken.values())
    return DONE


def _warn(lines: Iterable[object]) -> None:
    for line in lines:
        print(f"mrl-lab: {line}", file=sys.stderr)


def _as_json(notebook: Notebook) -> dict:
    fields = ("name", "kind", "default", "help")
    rules = {p.name: p.rule.text if p.rule else None for p in notebook.parameters}
    return {
        "name": notebook.name,
        "shows": notebook.shows,
        "minutes": notebook.minutes,
        "needs": notebook.needs,
        "adds": notebook.adds,
        "untried": notebook.untried,
        "parameters": [{f: getattr(p, f) for f in fields} | {"rule": rules[p.name]} for p in notebook.parameters],
    }


def _as_text(notebook: Notebook) -> str:
    minutes = ", ".join(f"{budget} {_count(n)}" for budget, n in notebook.minutes.items())
    lines = [f"{notebook.name}  {notebook.shows}", f"  minutes expected: {minutes or 'not said'}"]
    for said, sources in (("needs", notebook.needs), ("takes where found:", notebook.adds)):
        lines += [f"  {said} {_by_budget(sources, len(notebook.minutes))}"] if any(sources.values()) else []
    lines += [f"  never tried: {notebook.untried}"] if notebook.untried else []
    width = max((len(f"{p.name} = {p.default!r}") for p in notebook.parameters), default=0)
    for p in notebook.parameters:
        rule = f" [{p.rule.text}]" if p.rule else ""
        lines.append(f"  {f'{p.name} = {p.default!r}':{width}}  {p.help}{rule}")
    return "\n".join(lines)


def _by_budget(sources: dict[str, list[str]], budgets: int) -> str:
    """Return names with the budgets that have them, of ``budgets`` in all."""
    at: dict[str, list[str]] = {}
    for budget, names in sources.items():
        if names:
            at.setdefault(", ".join(names), []).append(budget)
    return "; ".join(names + (f" ({', '.join(some)})" if len(some) < budgets else "") for names, some in at.items())


def _count(minutes: float) -> str:
    return f"{minutes:g}"


# ------------------------------------------------------------------------------------------------------ data


def _data(asked: argparse.Namespace) -> int:
    from mrl_lab.data import shelf

    if asked.what == "list":
        if asked.names or asked.all:
            raise RequestError("mrl-lab data list shows every set: leave out names and --all.")
        print(shelf.table())
        return DONE
    return DONE if shelf.get(asked.names, asked.all) else FAILED


# ------------------------------------------------------------------------------------------------------- run


def _run(asked: argparse.Namespace) -> int:
    from mrl_lab.report import execute, jobs

    known, broken = notebooks.survey()
    chosen = _chosen(asked, known, broken)
    if asked.jobs < 1:
        raise RequestError(f"--jobs is a whole number from 1, got {asked.jobs}.")
    given = _pairs("-p", [*asked.p, *([["budget", asked.budget]] if asked.budget is not None else [])])
    grid = _pairs("--grid", [_split(text) for text in asked.grid])
    planned = jobs.plan(chosen, given, grid, asked.out, spare=asked.all)
    left_out = [str(error) for error in broken.values()] if asked.all else []
    left_out += [f"{name} is not run: {why}" for name, why in planned.seen.unable.items()]
    for line in planned.seen.without:
        print(line, flush=True)
    _warn(left_out)
    outcomes = execute.run(planned.jobs, asked.jobs, asked.fresh, asked.scheduler)
    failed = [o for o in outcomes if o.event == "failed"]
    for outcome in failed:
        print(_failure(outcome, asked.out), file=sys.stderr)
    _warn(left_out)
    try:
        index = f"All pages: {execute.write_index(asked.out)}"
    except (OSError, RequestError) as error:
        print(f"mrl-lab: the index could not be written: {error}", file=sys.stderr)
        return FAILED
    not_run = f", {len(left_out)} not run" if left_out else ""
    print(f"{len(outcomes) - len(failed)} done, {len(failed)} failed{not_run}. {index}")
    return FAILED if failed or left_out else DONE


def _chosen(asked: argparse.Namespace, known: dict[str, Notebook], broken: dict[str, RequestError]) -> list[Notebook]:
    if asked.all and asked.names:
        raise RequestError(f"--all runs every notebook: leave out {' '.join(asked.names)}, or leave out --all.")
    if not asked.all and not asked.names:
        raise RequestError(f"name a notebook, or give --all. There are: {', '.join(known)}.")
    return list(known.values()) if asked.all else notebooks.pick(asked.names, known, broken)


def _split(text: str) -> list[str]:
    name, equals, values = text.partition("=")
    if not equals or not name:
        raise RequestError(f"--grid is NAME=V1,V2, got {text!r}: write for example --grid dim=8,16,32.")
    return [name, values]


def _pairs(option: str, pairs: Iterable[Sequence[str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise RequestError(f"{option} sets {name!r} twice ({found[name]} and {value}): give it once.")
        found[name] = value
    return found


def _failure(outcome, out: Path) -> str:
    job = outcome.job
    where = f"in cell [{outcome.cell}]" if outcome.cell is not None else "outside its cells"
    lines = [f"\n{job} failed {where}:"]
    lines += [f"    {line}" for line in [*outcome.source.splitlines(), "", *outcome.error.splitlines()]]
    if outcome.page.is_file():
        lines.append(f"page of what ran: {outcome.page}")
    folder = f"./{out}" if str(out).startswith("-") else str(out)  # else it is read as another option
    elsewhere = "" if out == _default_out() else f" --out {shlex.quote(folder)}"
    return "\n".join([*lines, f"to repeat only this: {job.command}{elsewhere}"])


# ----------------------------------------------------------------------------------------------- pages, bench


def _pages(asked: argparse.Namespace) -> int:
    from mrl_lab.report import execute, page, prose

    folders = sorted(file.parent for file in asked.out.glob("*/*/run.json"))
    if not folders:
        raise RequestError(f"no runs in {asked.out}: make some with mrl-lab run, or give their folder with --out.")
    for folder in folders:
        renewed = asked.prose and prose.renew(folder)
        print(page.render(folder), *(["with new words"] if renewed else []))
    print(execute.write_index(asked.out))
    return DONE


def _bench(asked: argparse.Namespace) -> int:
    from mrl_lab import bench

    return bench.main(asked.names, asked.out)
