"""Trains a small MRL model and writes its losses; run alone or under ``accelerate launch``."""

import json
import os
import sys
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from mrl_lab.encoders import ConvNet
from mrl_lab.methods import mrl
from mrl_lab.train import fit

draw = torch.Generator().manual_seed(0)
y = torch.randint(3, (96,), generator=draw)
x = torch.randn(96, 1, 16, 16, generator=draw) + y[:, None, None, None]
net = mrl.classifier(lambda: ConvNet((1, 16, 16), 16, (8, 8), norm="group"), (2, 4, 16), 3)
history = fit(net, TensorDataset(x, y), steps=12, batch=32, lr=0.01)
if os.environ.get("RANK", "0") == "0":
    Path(sys.argv[1]).write_text(json.dumps(history.total.tolist()))
