"""Texts and questions: the counts that the catalogue promises, and that each package's form gives the folder's rows."""

import csv
import gzip
import io
import json
import shutil
import tarfile
import zipfile

import pytest
import torch

from mrl_lab.data import catalogue, contents, places, questions, texts
from mrl_lab.data.places import Found
from mrl_lab.errors import RequestError


@pytest.mark.usefixtures("shared")
def test_scored_pairs():
    stsb, sick, sts, snli = (texts.pairs(name) for name in texts.PAIRS)
    assert {part: len(rows) for part, rows in stsb.items()} == {"train": 5749, "dev": 1500, "test": 1379}
    assert {part: len(rows) for part, rows in sick.items()} == {"train": 4500, "dev": 500, "test": 4927}
    assert sum(map(len, sts.values())) == 12_544
    assert len(sts["2012 MSRpar"]) == 750
    assert stsb["test"].sentence1[0] == "A girl is styling her hair."
    for rows in (*stsb.values(), *sick.values(), *sts.values(), *snli.values()):
        assert len(rows.sentence1) == len(rows.sentence2) == len(rows)
        assert 0 <= min(rows.score) <= max(rows.score) <= 5
        assert all(rows.sentence1)


@pytest.mark.usefixtures("shared")
def test_graded_pairs_of_snli():
    parts = texts.pairs("snli")
    assert {part: len(rows) for part, rows in parts.items()} == {"dev": 2457, "test": 7367}
    dev, test = parts["dev"], parts["test"]
    assert not {*dev.sentence1} & {*test.sentence1}
    assert (dev.sentence1[0][:24], dev.sentence2[:3], dev.score[:3]) == (
        "This church choir sings ",
        [
            "The church has cracks in the ceiling.",
            "The church is filled with song.",
            "A choir singing at a baseball game.",
        ],
        [0.3, 0.9, 0.0],
    )
    assert {*dev.score} == {*test.score} == {*(i / 10 for i in range(11)), 0.625}, "grades that are equal tie"


def test_some_pairs_are_spread_evenly_over_all_of_them():
    pairs = texts.Pairs(list("abcdefgh"), list("ABCDEFGH"), [float(i) for i in range(8)])
    assert pairs.some(3) == texts.Pairs(["a", "c", "f"], ["A", "C", "F"], [0.0, 2.0, 5.0])
    assert pairs.some(8) == pairs.some(5_000) == pairs


@pytest.mark.usefixtures("shared")
def test_triplets_captions_paragraphs_and_papers():
    triplets = texts.triplets()
    assert len(triplets) == 33_284
    assert triplets[1] == (
        "Children smiling and waving at camera",
        "There are children present",
        "The kids are frowning",
    )
    captions = texts.captions()
    assert {part: len(rows) for part, rows in captions.items()} == {"train": 29_000, "val": 1014, "test": 1000}
    assert {len(five) for five in captions["test"]} == {5}
    assert len(texts.paragraphs()) == 6876
    papers = texts.papers()
    assert len(papers) == 1710
    assert len({paper.category for paper in papers}) == 120
    assert all(paper.category in paper.categories for paper in papers)


@pytest.mark.usefixtures("shared")
def test_collections_to_search():
    scifact, cranfield = map(texts.retrieval, texts.RETRIEVAL)
    assert (len(scifact.corpus), {k: len(v) for k, v in scifact.judged.items()}) == (5183, {"train": 809, "test": 300})
    assert (len(cranfield.corpus), len(cranfield.queries)) == (1400, 225)
    assert sum(map(len, cranfield.judged["test"].values())) == 1612
    for collection in (scifact, cranfield):
        for judged in collection.judged.values():
            assert judged.keys() <= collection.queries.keys()
            assert {document for grades in judged.values() for document in grades} <= collection.corpus.keys()
    assert (
        cranfield.corpus["1"].count("experimental investigation of the aerodynamics of a wing in a slipstream .") == 1
    )
    assert scifact.corpus["4983"].startswith("Microstructural development of human newborn cerebral white matter")


@pytest.mark.usefixtures("shared")
def test_pictures_with_questions():
    easy = questions.questions("easy_vqa")
    assert {part: len(asked) for part, asked in easy.items()} == {"train": 38_575, "test": 9673}
    assert easy["train"].images.shape == (4000, 3, 64, 64)
    assert len({*easy["train"].answers}) == 13
    assert easy["train"].picture.max() == 3999


@pytest.mark.parametrize(
    "read", [texts.pairs, texts.triplets, texts.captions, texts.retrieval, texts.paragraphs, questions.questions]
)
def test_unknown_names(read):
    with pytest.raises(RequestError, match=r"unknown .* 'nothing'"):
        read("nothing")


def test_a_set_that_is_not_here_names_the_command_that_gets_it(tmp_path, monkeypatch):
    monkeypatch.delenv("MRL_LAB_DATA", raising=False)
    monkeypatch.setenv("MRL_LAB_CACHE", str(tmp_path))
    monkeypatch.setenv("MRL_LAB_OFFLINE", "1")
    with pytest.raises(RequestError, match="To get it: mrl-lab data get stsb"):
        texts.pairs("stsb")


# ------------------------------------------------------------------------------------- the packages' own forms


@pytest.fixture
def only(tmp_path, monkeypatch):
    """Let every source consist of the files in an empty folder, once they are written there."""

    def ensure(name: str) -> Found:
        files = {str(f.relative_to(tmp_path)): "" for f in sorted(tmp_path.rglob("*")) if f.is_file()}
        return Found(name, "", tmp_path, files, "")

    monkeypatch.setattr(places, "ensure", ensure)
    return tmp_path


def sdist(file, **members: str) -> None:
    with tarfile.open(file, "w:gz") as archive:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content.encode())
            archive.addfile(about, io.BytesIO(content.encode()))


def snli(rows) -> str:
    """JSON lines as SNLI's authors write them."""
    columns = ("sentence1", "gold_label", "sentence2", "captionID", "annotator_labels")
    return "\n".join(json.dumps(dict(zip(columns, row, strict=True))) for row in rows)


VOTED = [  # premise, label, hypothesis, caption, votes: of the first and fifth picture are for validation
    ("a", "entailment", " a1", "1.jpg#0", "eeeen"),
    ("b", "neutral", "b1", "2.jpg#3", "nnncc"),
    ("a", "-", "a2", "1.jpg#0", "eennc"),
    ("c ", "contradiction", "c1", "3.jpg#1", "ccccc"),
    ("other caption", "entailment", "a3", "1.jpg#4", "eee"),
    ("d", "neutral", "d1", "4.jpg#0", "ennn"),
    ("e", "contradiction", "e1", "5.jpg#0", "nnccc"),
    ("b", "entailment", "b2", "2.jpg#3", "eecee"),
]
GRADED = {
    "dev": texts.Pairs(["a", "other caption", "e"], ["a1", "a3", "e1"], [0.9, 1.0, 0.2]),
    "test": texts.Pairs(["b", "c", "d", "b"], ["b1", "c1", "d1", "b2"], [0.3, 0.0, 0.625, 0.8]),
}


def test_graded_pairs_of_the_package(only):
    labels = {label[0]: label for label in texts.VOTES}
    rows = [(*row, [labels[vote] for vote in votes]) for *row, votes in VOTED]
    sdist(only / "p.tar.gz", **{"p-1/data/snli_1.0_test.jsonl": snli(rows)})
    assert texts.pairs("snli") == GRADED


def test_graded_pairs_of_the_folder(only):
    lines = ["label\tvotes_e/n/c\tpremise\thypothesis\tcaption_id"]
    for premise, label, hypothesis, caption, votes in VOTED:
        counts = "/".join(str(votes.count(vote)) for vote in "enc")
        lines += ["\t".join([label, counts, premise.strip(), hypothesis.strip(), caption])] * (label != "-")
    (only / "test.tsv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert texts.pairs("snli") == GRADED


def test_triplets_of_the_package(only):
    said = [("p ", "entailment", "e1"), ("p", "-", "?"), ("q", "entailment", "alone"), ("p", "contradiction", "c1")]
    said += [("p", "neutral", "n"), ("p", "entailment", "e2"), ("p", "contradiction", "c2"), ("p", "entailment", " e3")]
    rows = [(premise, label, hypothesis, "1.jpg#0", [label]) for premise, label, hypothesis in said]
    sdist(only / "p.tar.gz", **{"p-1/data/snli_1.0_train_subset.jsonl": snli(rows), "p-1/setup.py": "raise"})
    assert texts.triplets() == [("p", "e1", "c1"), ("p", "e2", "c2"), ("p", "e3", "c1")]


def test_papers_of_the_package(only):
    def collection(*rows: tuple[str, str]) -> str:
        out = io.StringIO()
        table = csv.writer(out)
        table.writerow(("title", "abstract", "arxiv_id", "category", "categories"))
        table.writerows((f"on {title}", "one,\ntwo", number, "cs.CV", "cs.CV,cs.AI") for number, title in rows)
        return out.getvalue()

    first, second = (
        collection(("1.1v1", "x"), ("2.2v1", "y"), ("1.1v1", "x")),
        collection(("1.1v2", "x again"), ("3.3v1", "z")),
    )
    sdist(only / "p.tar.gz", **{"p-1/b/papers_full.csv": second, "p-1/a/papers_full.csv": first})
    papers = texts.papers()
    assert [paper.title for paper in papers] == ["on x", "on y", "on z"]
    assert papers[0] == texts.Paper("on x", "one, two", "cs.CV", ("cs.CV", "cs.AI"))


def test_paragraphs_of_the_package(only):
    long = "word " * 9 + "end"
    with zipfile.ZipFile(only / "p.whl", "w") as archive:
        archive.writestr("p/data/wiki100/B.txt", f"{long}\nshort\n== {long} ==\n\n")
        archive.writestr("p/data/wiki100/A.txt", f"  {long}  again\n")
        archive.writestr("p/code.py", long)
    assert texts.paragraphs() == [("A", f"{long} again"), ("B", long)]


def test_stsb_of_the_hub(only):
    import pandas as pd

    for part, score in (("train", 1.0), ("validation", 0.5), ("test", 0.76)):
        table = pd.DataFrame({"sentence1": ["a"], "sentence2": ["b"], "score": [score]})
        table.to_parquet(only / f"{part}-00000-of-00001.parquet")
    pairs = texts.pairs("stsb")
    assert {part: rows.score[0] for part, rows in pairs.items()} == {"train": 5, "dev": 2.5, "test": 3.8}


# --------------------------------------------------------------------- the same rows in other containers


def parquet(file, rows: list[dict]) -> None:
    import pandas as pd

    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(file)


def lines_of_json(file, rows: list[dict]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def hub_of_stsb(folder, shared) -> None:
    """Scores from 0 to 1, in tables of which the second is called validation."""
    for part, there in (("train", "train"), ("dev", "validation"), ("test", "test")):
        with (shared / "stsb" / f"{part}.tsv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        parquet(
            folder / "data" / f"{there}-00000-of-00001.parquet", [r | {"score": float(r["score"]) / 5} for r in rows]
        )


def hub_of_semeval(folder, shared) -> None:
    """A repository a year, without subsets; here with the marks and the case that tokenising took away put back."""
    with gzip.open(shared / "sts12-16" / "sts12-16.tsv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for row in rows:
        row["sentence1"] = row["sentence1"].capitalize().replace(" ' ", "'").replace(" .", ".")
    for year in range(12, 17):
        some = [r | {"score": float(r["score"])} for r in rows if r["year"] == f"20{year}"]
        lines_of_json(folder / f"sts{year}-sts" / "test.jsonl.gz", some[::-1])


def hub_of_scifact(folder, shared) -> None:
    """Documents and queries as tables in one repository, judgements in another."""
    for name, file in (("corpus", "corpus.jsonl.gz"), ("queries", "queries.jsonl")):
        content = (shared / "scifact" / file).read_bytes()
        text = (gzip.decompress(content) if file.endswith(".gz") else content).decode()
        rows = [json.loads(line) for line in text.split("\n") if line]
        parquet(
            folder / "scifact" / name / f"{name}-00000-of-00001.parquet",
            [{"_id": r["_id"], "title": r.get("title", ""), "text": r["text"]} for r in rows],
        )
    (folder / "scifact-qrels").mkdir()
    for part in ("train", "test"):
        shutil.copy(shared / "scifact" / "qrels" / f"{part}.tsv", folder / "scifact-qrels")


def hub_of_all_nli(folder, shared) -> None:
    """As many triplets as the hub's card states; nothing else of them is known here."""
    row = {"anchor": "a dog runs", "positive": "a dog moves", "negative": "a dog sleeps"}
    parquet(folder / "triplet" / "train-00000-of-00001.parquet", [row] * 557_850)


def archive_of_sick(folder, shared) -> None:
    """One table whose last column tells the part."""
    rows = []
    for part, there in (("train", "TRAIN"), ("dev", "TRIAL"), ("test", "TEST")):
        with (shared / "sick" / f"{part}.tsv").open(encoding="utf-8") as file:
            found = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows += [[*(r[c] for c in ("pair_ID", *texts.SICK)), there] for r in found]
    head = "\t".join(["pair_ID", *texts.SICK, "SemEval_set"])
    table = "\r\n".join([head, *map("\t".join, sorted(rows))])
    with zipfile.ZipFile(folder / "SICK.zip", "w") as archive:
        archive.writestr("SICK.txt", table)
        archive.writestr("readme.txt", "licence")


def archive_of_cranfield(folder, shared) -> None:
    """The SMART system's texts: queries have numbers with gaps, judgements count them from 1, and some say no."""
    packed = gzip.decompress((shared / "cranfield" / "corpus.jsonl.gz").read_bytes()).decode()
    corpus = [json.loads(line) for line in packed.splitlines()]
    queries = [json.loads(line) for line in (shared / "cranfield" / "queries.jsonl").read_text().splitlines()]
    judged = [line.split("\t") for line in (shared / "cranfield" / "qrels" / "test.tsv").read_text().splitlines()[1:]]
    fold = "\n".join
    documents = [f".I {d['_id']}\n.T\n{d['title']}\n.A\nsomeone\n.B\nj. ae. scs.\n.W\n{d['text']}\n" for d in corpus]
    asked = [f".I {int(q['orig_id']):03}\n.W\n{fold(q['text'].split(' ', 1))}\n" for q in queries]
    grades = [f"{query} {document}  {grade}\n" for query, document, grade in judged] + ["1 1 5\n", "2 2 -1\n"]
    texts_in = {"cran.all.1400": documents, "cran.qry": asked, "cranqrel": grades}
    sdist(folder / "cran.tar.gz", **{name: "".join(some) for name, some in texts_in.items()})


def files_of_captions(folder, shared) -> None:
    """A file a caption of each part."""
    for part in ("train", "val", "test_2016"):
        with gzip.open(shared / "multi30k_captions_en" / f"{part}.tsv.gz", "rt", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        for i in range(1, 6):
            text = "".join(row[f"caption{i}"] + "\n" for row in rows)
            (folder / f"{part}.{i}.en.gz").write_bytes(gzip.compress(text.encode()))


def archive_of_nlvr(folder, shared) -> None:
    """The repository as one archive: each scene in several orders, a list a part, of which a final one replaces one."""
    import pandas as pd

    with zipfile.ZipFile(folder / "nlvr.zip", "w") as archive:
        for part in ("dev", "test", "hidden"):
            rows = pd.read_parquet(shared / "nlvr_small" / f"{part}.parquet").to_dict("records")
            for row in rows:
                for order in (1, 0):
                    archive.writestr(
                        f"nlvr-master/nlvr/{part}/images/3/{part}-{row['identifier']}-{order}.png", row["png"]
                    )
            kept = [{k: row[k] for k in ("identifier", "sentence", "label")} for row in rows]
            name = "hidden_final" if part == "hidden" else part
            archive.writestr(f"nlvr-master/nlvr/{part}/{name}.json", "\n".join(map(json.dumps, kept)))
        archive.writestr("nlvr-master/nlvr/hidden/hidden2.json", "{}")


STAND_INS = {
    "stsb": hub_of_stsb,
    "sts12-16": hub_of_semeval,
    "all-nli": hub_of_all_nli,
    "scifact": hub_of_scifact,
    "sick": archive_of_sick,
    "cranfield": archive_of_cranfield,
    "multi30k": files_of_captions,
    "nlvr": archive_of_nlvr,
}


@pytest.mark.parametrize("name", STAND_INS)
def test_another_container_of_the_same_rows_passes(name, shared, tmp_path):
    STAND_INS[name](tmp_path, shared)
    files = {f.relative_to(tmp_path).as_posix(): "" for f in sorted(tmp_path.rglob("*")) if f.is_file()}
    contents.check(Found(name, "", tmp_path, files, ""), catalogue.SOURCES[name].rows)


def test_triplets_of_the_hub_are_read_and_fewer_are_refused(tmp_path):
    row = {"negative": "a dog sleeps", "anchor": "a dog runs", "positive": "a dog moves"}
    parquet(tmp_path / "triplet" / "train-00000-of-00001.parquet", [row] * 3)
    found = Found("all-nli", "", tmp_path, {"triplet/train-00000-of-00001.parquet": ""}, "")
    assert texts.triplets_in(found) == [("a dog runs", "a dog moves", "a dog sleeps")] * 3
    with pytest.raises(RequestError, match=r"not those recorded here, in train$"):
        contents.check(found, catalogue.SOURCES["all-nli"].rows)


def test_judged_queries_give_triplets_whose_negative_shares_words_and_answers_nothing():
    corpus = {"a": "red fish swim", "b": "blue fish swim", "c": "red cars", "d": "fish swim fast", "e": "stones"}
    queries = {"1": "stones", "2": "red fish swim", "3": "stones", "4": "cars", "9": "a test's own"}
    train = {"1": {"e": 1}, "2": {"a": 1, "d": 2, "b": 0}, "3": {"e": 1, "gone": 1}, "4": {"a": 0}}
    found = texts._answered(texts.Retrieval(corpus, queries, {"train": train, "test": {"9": {"a": 1}}}))
    assert [row[:2] for row in found] == [
        *(("red fish swim", corpus["a"]), ("red fish swim", corpus["d"])), ("stones", corpus["e"])
    ]  # fmt: skip
    assert found[0][2] == found[1][2] == corpus["c"], "b is nearer, and was judged"
    assert found[2][2] != corpus["e"]
    assert list(texts.held_out(train)) == ["1"], "chooses, and is not trained on"


@pytest.mark.usefixtures("shared")
def test_scifact_s_training_queries_give_triplets():
    rows, judged = texts.triplets("scifact"), texts.retrieval("scifact").judged["train"]
    asked = {query for query in judged if query not in texts.held_out(judged)}
    assert (len(judged), len(asked), len(rows)) == (809, 606, 694)
    assert all(positive != negative for _, positive, negative in rows)


def test_other_rows_do_not_pass(shared, tmp_path):
    hub_of_stsb(tmp_path, shared)
    test = tmp_path / "data" / "test-00000-of-00001.parquet"
    import pandas as pd

    table = pd.read_parquet(test)
    table.loc[7, "sentence1"] = table.loc[7, "sentence1"] + " not"
    table.to_parquet(test)
    files = {f.relative_to(tmp_path).as_posix(): "" for f in sorted(tmp_path.rglob("*")) if f.is_file()}
    with pytest.raises(RequestError, match=r"not those recorded here, in test$"):
        contents.check(Found("stsb", "", tmp_path, files, ""), catalogue.SOURCES["stsb"].rows)


def test_a_container_of_another_layout_is_said_to_be_one(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"no table")
    with pytest.raises(RequestError, match="laid out in another way"):
        contents.of(Found("stsb", "", tmp_path, {"train.parquet": ""}, ""))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ([("a b", 1.0)], [("A, b!", 1)], True),
        ([("a",), ("b",)], [("b",), ("a",)], True),
        ([("a",), ("a",)], [("a",)], False),
        ([("ab", "c")], [("a", "bc")], False),
        ([("a", 1.0)], [("a", 1.001)], False),
        ([("a", 3.8)], [("a", 5 * 0.76)], True),
        ([("café",)], [("cafe\u0301",)], True),
        ([("a",)], [("not a",)], False),
        ([(1, b"\0\1")], [(1, b"\0\2")], False),
    ],
)
def test_what_counts_in_a_row(first, second, same):
    assert (contents.digest(first) == contents.digest(second)) == same


def test_easy_vqa_of_the_package(only):
    from PIL import Image

    with zipfile.ZipFile(only / "p.whl", "w") as archive:
        for part, colour in (("train", 10), ("test", 20)):
            png = io.BytesIO()
            Image.new("RGB", (4, 4), (colour, 0, 0)).save(png, "png")
            archive.writestr(f"easy_vqa/data/{part}/images/7.png", png.getvalue())
            archive.writestr(
                f"easy_vqa/data/{part}/questions.json", json.dumps([["what?", "red", 7], ["is it?", "no", 7]])
            )
    asked = questions.questions("easy_vqa")["test"]
    assert asked.images[0, :, 0, 0].tolist() == [20, 0, 0]
    assert torch.equal(asked.picture, torch.tensor([0, 0]))
    assert (asked.questions, asked.answers) == (["what?", "is it?"], ["red", "no"])


def test_nlvr_reads_every_split(only):
    import pandas as pd
    from PIL import Image

    png = io.BytesIO()
    Image.new("RGBA", (8, 2), (1, 2, 3, 255)).save(png, "png")
    for part in ("dev", "test", "hidden"):
        row = {"identifier": ["1-0"], "sentence": [f"a {part}"], "label": ["true"], "png": [png.getvalue()]}
        pd.DataFrame(row).to_parquet(only / f"{part}.parquet")
    asked = questions.questions("nlvr")
    assert asked["hidden"].images.shape == (1, 3, 2, 8)
    assert (asked["hidden"].questions, asked["hidden"].answers) == (["a hidden"], ["true"])
