"""What a reader leaves with opens elsewhere and gives our own vectors, or it is not there at all."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from small_texts import TEXTS, encoder
from test_encoders_elsewhere import PROMPTS, SOME, dense, saved
from torch import nn

from mrl_lab import export
from mrl_lab.cuts import unit_prefix
from mrl_lab.encoders import cutting
from mrl_lab.encoders.elsewhere import pretrained
from mrl_lab.errors import RequestError

SCORES = pd.DataFrame(
    [("own", s, m, "ndcg@10", 40.0 + m + s) for s in (0, 1) for m in (4, 8)],
    columns=["method", "seed", "dim", "metric", "value"],
)


def rotation(d=32, seed=0):
    return torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed)))[0]


class Adaptor(nn.Module):
    """Has what an adaptor has: a matrix, and a small network before it or nothing."""

    def __init__(self, bend=None):
        super().__init__()
        self.matrix, self.bend = nn.Parameter(2 * rotation()), bend


def embedded(folder, side=None, **how):
    peer = SentenceTransformer(str(folder), device="cpu", **how)
    encode = {None: peer.encode, "query": peer.encode_query, "document": peer.encode_document}[side]
    return torch.from_numpy(encode(SOME, normalize_embeddings="truncate_dim" in how))


FOLDERS = {
    "plain": ({}, 32),
    "cls, Normalize, prompts": ({"pooling": "cls", "behind": [Normalize()], "prompts": PROMPTS, "length": 20}, 32),
    "Dense, Normalize": ({"behind": [dense(), Normalize()]}, 16),
    "truncated": ({"behind": [Normalize()], "truncate_dim": 24}, 24),
    "dot": ({"similarity_fn_name": "dot"}, 32),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_nested_model_gives_our_vectors_whole_and_truncated(tmp_path, name):
    how, width = FOLDERS[name]
    ours, turn = pretrained(saved(tmp_path, **how)), rotation(width)
    folder = export.model(ours, tmp_path / "model", 12, matrix=turn, sizes=(4, 8, 12))
    for side in (None, "query", "document"):
        z = ours.vectors(SOME, side=side) @ turn
        whole = z[:, :12] if name == "dot" else unit_prefix(z, 12)
        torch.testing.assert_close(embedded(folder, side), whole, rtol=0, atol=1e-6)
        for m in (4, 8):
            part = embedded(folder, side, truncate_dim=m)
            torch.testing.assert_close(part, unit_prefix(z, m), rtol=0, atol=1e-6)
    again = pretrained(folder)
    torch.testing.assert_close(again.vectors(SOME), embedded(folder), rtol=0, atol=1e-6)


def test_transformers_opens_the_body_and_finds_the_sizes(tmp_path):
    from transformers import AutoModel

    folder = export.model(encoder(), tmp_path / "model", 8, layer=2, sizes=(4, 8))
    body = AutoModel.from_pretrained(folder)
    assert (body.config.num_hidden_layers, body.config.matryoshka_dimensions) == (2, [4, 8])
    assert body.config.is_matryoshka
    ids, attention = encoder().tokens(SOME)
    with torch.no_grad():
        states = body.eval()(input_ids=ids, attention_mask=attention).last_hidden_state  # (B, T, d)
    mean = (states * attention[..., None]).sum(1) / attention.sum(1, keepdim=True)
    torch.testing.assert_close(mean, encoder().encode(SOME)[:, 2], rtol=1e-5, atol=1e-5)
    told = json.loads((folder / "config_sentence_transformers.json").read_text())
    assert (told["truncate_dim"], told["matryoshka_dimensions"]) == (8, [4, 8])


def test_a_model_that_was_never_nested_claims_no_sizes(tmp_path):
    ours = encoder()
    folder = export.model(ours, tmp_path / "model", 8)
    for name in ("config.json", "config_sentence_transformers.json"):
        assert "matryoshka" not in (folder / name).read_text()
    assert not hasattr(ours.body.config, "is_matryoshka")
    assert "truncate_dim=" not in (folder / "README.md").read_text()


def test_the_card_has_a_score_a_size_and_says_what_is_lost(tmp_path, capsys):
    folder = export.model(encoder(), tmp_path / "model", 8, sizes=(4, 8), scores=SCORES, dataset="Sci Fact")
    card = ModelCard.load(folder / "README.md")
    found = {one.metric_name: (one.dataset_name, one.metric_value) for one in card.data.eval_results}
    assert found == {"ndcg@10, 4 dims": ("Sci Fact", 44.5), "ndcg@10, 8 dims": ("Sci Fact", 48.5)}
    assert card.data.library_name == "sentence-transformers"
    for words in ("| 4 | 44.5 |", "truncate_dim=4", "hf upload", "keep their nearest neighbour", "8 of 32 numbers"):
        assert words in card.text
    assert "keep their nearest neighbour" in capsys.readouterr().out
    with pytest.raises(RequestError, match="there is no dim"):
        export.model(encoder(), tmp_path / "no", 8, scores=SCORES.drop(columns="dim"))


def test_an_adaptor_leaves_as_its_matrix_and_one_with_an_mlp_does_not(tmp_path):
    ours = encoder()
    folder = export.model(ours, tmp_path / "model", 8, matrix=Adaptor())
    expected = unit_prefix(ours.vectors(SOME) @ rotation(), 8)
    torch.testing.assert_close(embedded(folder), expected, rtol=0, atol=1e-6)
    for save in (lambda where, m: export.model(ours, where, 8, matrix=m), lambda where, m: export.vectors(m, where, 8)):
        with pytest.raises(RequestError, match="has an MLP before its matrix"):
            save(tmp_path / "bent", Adaptor(nn.Linear(32, 32)))
        with pytest.raises(RequestError, match="takes a mean off before it turns"):
            save(tmp_path / "bent", SimpleNamespace(matrix=rotation(), mean=torch.ones(32)))
        with pytest.raises(RequestError, match="is wanted, got SimpleNamespace"):
            save(tmp_path / "bent", SimpleNamespace(matrix=None))
    assert not (tmp_path / "bent").exists()


def broken(value=np.nan):
    matrix = rotation()
    matrix[3, 1] = value
    return matrix


WRONG = {
    "another width": ({"matrix": rotation(16)}, r"for vectors of 32 numbers is \(32, r\) and finite, got \(16, 16\)"),
    "too few columns": ({"matrix": rotation()[:, :4]}, "cannot keep 8 dims of an embedding that has 4"),
    "NaN": ({"matrix": broken()}, "NaN or infinite"),
    "no matrix": ({"matrix": [[1.0]]}, "got list"),
    "a size above dim": ({"sizes": (4, 16)}, "size 16 is larger"),
    "an unknown similarity": ({"similarity": "cos"}, "Did you mean 'cosine'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_and_nothing_is_left(tmp_path, name):
    how, words = WRONG[name]
    with pytest.raises(RequestError, match=words):
        export.model(encoder(), tmp_path / "model", 8, **how)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_vectors_differ_is_not_left(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(cutting, "CLOSE", -1.0)
        with pytest.raises(RequestError, match="nothing was saved"):
            export.model(encoder(), tmp_path / "model", 8, matrix=rotation(), texts=TEXTS)
    monkeypatch.setattr(export, "LINES", export.LINES.replace("z = z @", "z = -z @"))
    with pytest.raises(RequestError, match="nothing was saved"):
        export.vectors(rotation(), tmp_path / "vectors", 8)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == "", "nothing is announced"


# --------------------------------------------------------------------------------------------- vectors alone


def test_the_five_lines_give_our_vectors_where_this_package_is_not(tmp_path):
    folder = export.vectors(rotation(), tmp_path / "model", 8, sizes=(4, 8), scores=SCORES)
    lines, z = (folder / "apply.py").read_text(), torch.randn(50, 32)
    assert len(lines.splitlines()) == 5
    assert f"```python\n{lines}```" in (folder / "README.md").read_text()
    assert "| 8 | 48.5 |" in (folder / "README.md").read_text()
    np.save(folder / "z.npy", z.numpy())
    np.save(folder / "half.npy", z.half().numpy())
    use = f'{lines}\nfor name in ("z", "half"):\n    np.save(name + "4.npy", cut(np.load(name + ".npy"), 4))\n'
    use += 'np.save("z8.npy", cut(np.load("z.npy")))'
    subprocess.run([sys.executable, "-c", use], cwd=folder, check=True)
    for name, m, limit in (("z4", 4, 1e-6), ("z8", 8, 1e-6), ("half4", 4, 1e-3)):
        theirs = torch.from_numpy(np.load(folder / f"{name}.npy")).float()
        torch.testing.assert_close(theirs, unit_prefix(z @ rotation(), m), rtol=0, atol=limit)


@pytest.mark.parametrize(
    ("matrix", "dim", "words"),
    [
        (rotation(), 33, "33 is larger"),
        (broken(np.inf), 8, "NaN or infinite"),
        (torch.ones(3), 2, "a matrix \\(d, r\\)"),
    ],
)
def test_a_matrix_that_cannot_be_saved_is_refused(tmp_path, matrix, dim, words):
    with pytest.raises(RequestError, match=words):
        export.vectors(matrix, tmp_path / "model", dim)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    with pytest.raises(RequestError, match="in use"):
        export.vectors(rotation(), tmp_path / "used", 8)
