"""Trains small models by every method's loss and writes their losses; run alone or under ``accelerate launch``."""

import json
import os
import sys
from pathlib import Path

import torch
from small_texts import ROWS, TEXTS, encoder, tokenizer
from torch.utils.data import TensorDataset

from mrl_lab import shares
from mrl_lab.data.crops import MultiCrop
from mrl_lab.encoders import ConvNet, llava_weights
from mrl_lab.encoders.llava import Llava
from mrl_lab.encoders.patches import PatchViT
from mrl_lab.encoders.texts import small_config
from mrl_lab.encoders.tokens import MaskedRows, TextRows
from mrl_lab.methods import adaptor, ese, franca, m3, masks, mrl, mse2d, sparse, starbucks
from mrl_lab.train import fit

N, SHAPE, STEPS, RATE = 48, (1, 16, 16), 12, 0.01  # plain steps: to Adam a gradient half as long is the same
everything = torch.arange(N)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def conv() -> ConvNet:
    return ConvNet(SHAPE, 16, (8, 8), positions=False, norm="group")  # a BatchNorm would count each half alone


def pictures():
    y = everything % 3
    x = draw(N, *SHAPE) + y[:, None, None, None]
    return mrl.classifier(conv, (2, 4, 16), 3), (x, y)


def views():
    x = draw(N, *SHAPE)
    return mrl.Contrastive(conv(), (4, 16)), (x, x + 0.5 * x.flip(0))


def sentences(method):
    """Anchors that come twice, so that a step has copies to leave out: rows that are made a batch at a time."""
    return method(encoder()), TextRows(tokenizer(), (ROWS * 2)[:N], leave_out_copies=True)


def hidden_words():
    from transformers import BertForMaskedLM

    body = BertForMaskedLM(small_config(tokenizer(), 32, 2, dropout=0.0))
    rows = MaskedRows(tokenizer(), [" , ".join(TEXTS[i % 36] for i in range(n, n + 1 + n % 4)) for n in range(N)])
    return starbucks.SMAE(body, [(1, 8), (2, 32)]), rows[everything]


def talk():
    """Answers of one to four words, so that processes have different numbers of them."""
    body = Llava(llava_weights.build(12, d=32, tower_layers=1, layers=1))
    ids = torch.cat([torch.full((N, 1), 1), torch.randint(3, 12, (N, 6))], 1)
    labels = torch.where(torch.arange(7) > 6 - 1 - everything[:, None] % 4, ids, -100)
    return m3.M3(body, (1, 4, 16)), (draw(N, 3, 32, 32), ids, labels)


def student(patches):
    """Crops and masks are drawn as it learns."""
    make = (lambda: PatchViT(SHAPE, 32, layers=1, patch=4)) if patches else conv
    model = franca.franca(make, (8, make().d), steps=STEPS, prototypes=16, hidden=16, bottleneck=8, patches=patches)
    x = (40 * draw(N, *SHAPE) + 128).clamp(0, 255).to(torch.uint8)
    return model, MultiCrop(x, small=1, side=8, masks=masks.CyclicMask((4, 4)) if patches else None)


def vectors(method):
    z = torch.nn.functional.normalize(draw(N, 16), dim=1)
    return method(z), (z,)


KINDS = {
    "MRL": pictures,
    "MRL, contrastive": views,
    "2DMSE": lambda: sentences(lambda body: mse2d.MSE2D(body, sizes=(8, 16))),
    "Starbucks": lambda: sentences(lambda body: starbucks.SRL(body, [(1, 8), (2, 16), (3, 32)])),
    "ESE": lambda: sentences(ese.ESE),
    "SMAE": hidden_words,
    "M3": talk,
    "Franca, ConvNet": lambda: student(patches=False),
    "Franca, ViT": lambda: student(patches=True),
    "adaptor": lambda: vectors(lambda z: adaptor.Adaptor(torch.eye(16), (4, 8))),
    "sparse codes": lambda: vectors(lambda z: sparse.Sparse(16, 4)),
}

losses: dict[str, object] = {}
for kind, build in KINDS.items():
    torch.manual_seed(0)
    model, rows = build()
    after = {"after_step": model.after_step} if hasattr(model, "after_step") else {}
    rows = TensorDataset(*rows) if isinstance(rows, tuple) else rows
    history = fit(model, rows, steps=STEPS, batch=24, lr=RATE, optimizer="sgd", **after)
    losses[kind] = history.total.tolist()
if os.environ.get("RANK", "0") == "0":
    Path(sys.argv[1]).write_text(json.dumps(losses | {"processes": shares.processes()}))
