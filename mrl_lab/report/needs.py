"""What a request needs, seen to before anything runs: data sets, weights, files and models of one's own.

A notebook's metadata tells by budget what it *needs* and what only *adds* to it. What is needed and cannot be had is an
error, or, where all notebooks were asked for, spares the others; what adds and cannot be had is said in a line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mrl_lab import parameters
from mrl_lab.data import catalogue, fetch, places, questions, searched, triplets
from mrl_lab.errors import RequestError
from mrl_lab.parameters import Parameter, Value
from mrl_lab.report.notebooks import Notebook

Setting = Mapping[str, Value]
CONFIGURED = ("config.json", "modules.json")  # of transformers, of sentence-transformers
TENSORS = (".pth", ".pt", ".safetensors")  # of a file of tensors; what it holds is seen when it is opened
MODEL = "Give a folder with config.json and model.safetensors, or a name that the hub has, where it can be reached."


@dataclass(frozen=True)
class Seen:
    """What cannot be had: {notebook: why it cannot run}, and a line for each source that would only add."""

    unable: dict[str, str]
    without: list[str]


def see_to(settings: Iterable[tuple[Notebook, Setting]], spare: bool) -> Seen:
    """Look for all that these settings name; what is missing is fetched now, not in the middle of a run.

    Args:
        spare: a notebook whose sources cannot be had does not stop the others.

    Raises:
        RequestError: what is needed cannot be had, unless it spares others; or one's own file or model is wrong.
    """
    needed: dict[str, list[str]] = {}
    adding: dict[str, list[str]] = {}
    notebooks = {}
    for notebook, setting in settings:
        notebooks[notebook.name] = notebook
        check_own(notebook, setting)
        for sources, wanted in zip(sources_of(notebook, setting), (needed, adding), strict=True):
            for name in sources:
                wanted.setdefault(name, []).append(notebook.name)
    unable: dict[str, str] = {}
    _each(needed, places.ensure, unable)
    without = _each(adding, places.absence, unable)
    if unable and (not spare or len(unable) == len(notebooks)):
        raise RequestError(next(iter(unable.values())))
    return Seen(
        unable, [f"{line} (adds to {', '.join(dict.fromkeys(adding[name]))})" for name, line in without.items()]
    )


def _each(wanted: Mapping[str, list[str]], look: Callable[[str], object], unable: dict[str, str]) -> dict[str, object]:
    """Look for each source that a notebook still wants; note whom an error stops; return what else was found to say."""
    said = {}
    for name, users in wanted.items():
        try:
            if set(users) - unable.keys() and (line := look(name)):
                said[name] = line
        except RequestError as error:
            unable.update({user: str(error) for user in users if user not in unable})
    return said


def sources_of(notebook: Notebook, setting: Setting) -> tuple[list[str], list[str]]:
    """Return (the sources that a setting needs, those that only add to it).

    A parameter that is given the name of a source needs it. What the parameter's default stands for is then not used.
    """
    budget = setting.get("budget", "")
    changed = {p.name: setting[p.name] for p in notebook.parameters if setting[p.name] != p.default}
    unused = {name for parameter in changed for name in notebook.instead.get(parameter, ())}
    chosen = [value for value in changed.values() if value in catalogue.NAMES]
    needs = [name for name in notebook.needs.get(budget, ()) if name not in unused] + chosen
    adds = [name for name in notebook.adds.get(budget, ()) if name not in {*unused, *needs}]
    return needs, adds


# ------------------------------------------------------------------------------------------------ one's own


def check_own(notebook: Notebook, setting: Setting) -> None:
    """Check the files and the models that parameters name.

    Raises:
        RequestError: a file of data that cannot be used; a folder without a model; a model that the hub does not give.
    """
    known = parameters.named(notebook.parameters)
    if "vectors" in known:  # its files and folders go together, and are checked together
        searched.check({name: setting[name] for name in searched.GIVEN if name in known})
    if "triplets" in known:
        triplets.check({name: setting[name] for name in triplets.GIVEN})
    for name, parameter in known.items():
        rule, value = parameter.rule, setting[name]
        searches = "vectors" in known and name in (*searched.GIVEN, "triplets") and name != "model"
        if rule is None or value == parameter.default or searches:
            continue
        if "hub name" in rule.path:
            for model in value if isinstance(value, list) else [value]:
                if model not in catalogue.NAMES:
                    _check_model(parameter, str(model))
        elif "with questions" in rule.text:
            questions.own(str(value))
        elif "by class" in rule.text:
            from mrl_lab.data import folders

            folders.parts(str(value))
        elif "file" in rule.path and os.path.isfile(str(value)):
            from mrl_lab import data

            data.load(value)


def _check_model(parameter: Parameter, model: str) -> None:
    folder = Path(model)
    if folder.is_file():
        if folder.suffix not in TENSORS:
            raise RequestError(f"parameter {parameter.name!r}: {model} is no file of weights ({', '.join(TENSORS)}).")
    elif not folder.is_dir():
        _check_at_hub(parameter, model)
    elif not any((folder / file).is_file() for file in CONFIGURED):
        raise RequestError(f"parameter {parameter.name!r}: {model} has no {CONFIGURED[0]}. {MODEL}")
    elif not any(folder.rglob("*.safetensors")) and not (_llava_s_own(folder) and any(folder.glob("*.bin"))):
        raise RequestError(f"parameter {parameter.name!r}: {model} has no weights as .safetensors. {MODEL}")


def _llava_s_own(folder: Path) -> bool:
    """True for a folder in LLaVA's own format, whose files of tensors are read as tensors alone."""
    config = folder / CONFIGURED[0]
    return config.is_file() and '"mm_vision_tower"' in config.read_text(encoding="utf-8")


def _check_at_hub(parameter: Parameter, model: str) -> None:
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(model, "config.json"), str):
        return
    try:
        fetch.hub_info(model, "model")
    except fetch.Failed as failure:
        raise RequestError(f"parameter {parameter.name!r}: {failure}. {MODEL}") from failure
