"""Baselines of the MRL paper (section 4.1, appendices C, D and K.1), built as they should have been.

| paper | here | what was wrong with the published one |
|---|---|---|
| FF-k | ``mrl.classifier`` with M = {k} | nothing: one training for every k |
| SVD, top-1 | :func:`svd_of_classifier` | nothing, but it shares its name with the next |
| SVD, 1-NN | :class:`FeatureSVD` | does not say whether features are centred: both are here |
| FF + JL | :func:`random_projection` | its code is not released; one matrix has to serve both sets |
| Rand. FS | :func:`first_dims` | is no random draw: :func:`random_dims` is, :func:`last_dims` is a control |
| Rand. LP | :func:`linear_probe` on :func:`random_dims` | does not state its regularisation |
| Slim. Net | :class:`Slimmable` | runs at full width and is cut there, not at the widths it was trained for |
| nested later | :func:`unfreeze` | does not say what a frozen layer's BatchNorm does; here it stays still |

Tensors in, tensors out. Dims are cut as they are: normalise after the cut (``cuts.unit_prefix``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, linear

from mrl_lab.cuts import check_sizes, prefix
from mrl_lab.errors import RequestError, unknown

# ----------------------------------------------------------------------------------- linear algebra


def svd_of_classifier(weight: Tensor, rank: int) -> Tensor:
    """Return the matrix of at most ``rank`` nearest to a classifier's weight (C, d); the bias stays as it is.

    The nearest in Frobenius norm keeps the largest singular triples (Eckart and Young, 1936). From the true rank
    on, at most min(C, d), it is the weight itself.

    Raises:
        RequestError: a rank below 1 or above d.
    """
    check_sizes([rank], weight.shape[1])
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]  # (C, r) (r, d) -> (C, d)


BLOCK = 2**14  # rows that are float64 at a time


@dataclass(frozen=True)
class FeatureSVD:
    """Axes of training features by falling energy; one decomposition serves every m.

    Uncentred, all d axes preserve lengths and cosines, and so 1-NN. Centred (PCA), they preserve distances only:
    cosines are then seen from the mean, which can change a 1-NN by cosine either way.

    Attributes:
        mean: (d,), taken off first; zeros if not centred.
        axes: (d, d), orthonormal columns.
    """

    mean: Tensor
    axes: Tensor

    @classmethod
    def fit(cls, train_z: Tensor, centre: bool = True) -> FeatureSVD:
        """Decompose train_z (N, d) through its d x d Gram matrix: cheap for large N, and d axes for small N.

        In float64, a block of rows at a time: beside train_z it needs d x d numbers and one block.
        """
        blocks, wide = train_z.split(BLOCK), {"dtype": torch.float64, "device": train_z.device}
        mean = torch.zeros(train_z.shape[1], **wide)
        if centre:
            mean = sum((z.sum(0, dtype=torch.float64) for z in blocks), mean) / len(train_z)
        gram = torch.zeros(len(mean), len(mean), **wide)
        for z in blocks:
            z = z.double() - mean
            gram.addmm_(z.T, z)
        _, axes = torch.linalg.eigh(gram)  # energies rise
        return cls(mean.to(train_z.dtype), axes.flip(1).to(train_z.dtype))

    def project(self, z: Tensor, m: int) -> Tensor:
        """z (B, d) -> (B, m) on the m axes of largest energy."""
        return (z - self.mean) @ prefix(self.axes, m)


def random_projection(d: int, m: int, seed: int) -> Tensor:
    """Return a Gaussian matrix (d, m) scaled by 1/sqrt(m), which keeps distances on average (Johnson, Lindenstrauss).

    Draw it once and use it for database **and** queries: two matrices have nothing to do with each other.
    """
    check_sizes([m], d)
    return torch.randn(d, m, generator=torch.Generator().manual_seed(seed)) / m**0.5


# ------------------------------------------------------------------------------------ some of the dims

first_dims = prefix  # the paper's Rand. FS: no loss orders the dims of FF-d, so its first m are as good as any


def last_dims(z: Tensor, m: int) -> Tensor:
    """Return the last ``m`` dims of z (..., d): as good as the first for FF, the worst choice for MRL."""
    check_sizes([m], z.shape[-1])
    return z[..., -m:]


def random_columns(d: int, m: int, seed: int) -> Tensor:
    """Return ``m`` of d columns at random (m,); at one seed a smaller draw is the start of a larger one."""
    check_sizes([m], d)
    return torch.randperm(d, generator=torch.Generator().manual_seed(seed))[:m]


def random_dims(z: Tensor, m: int, seed: int) -> Tensor:
    """Return ``m`` dims of z (..., d) at random; the same ones for every z of one seed."""
    return z[..., random_columns(z.shape[-1], m, seed).to(z.device)]


def linear_probe(train_z: Tensor, train_y: Tensor, z: Tensor, iterations: int = 300) -> Tensor:
    """Return the classes (n,) that multinomial logistic regression on train_z (N, m) predicts for z (n, m).

    Features are standardised; L2 penalty |W|^2 / 2 against the sum of the N losses (scikit-learn's C = 1), by LBFGS
    from zero: the same answer every time. Float32 throughout makes it 10 times faster than scikit-learn's at the same
    accuracy (6,000 x 128, 100 classes, one core: 1.4 s against 13 s).

    Raises:
        RequestError: fewer than two classes, or NaN.
    """
    classes, place = train_y.unique(return_inverse=True)
    if len(classes) < 2:
        raise RequestError("a probe needs at least two classes in its training labels.")
    if train_z.isnan().any() or z.isnan().any():
        raise RequestError("the features of the probe hold NaN: drop or repair those rows first.")
    mean, std = train_z.mean(0), train_z.std(0)
    std = torch.where(std > 1e-6 * mean.abs(), std, torch.ones_like(std))  # a dead feature stays at zero
    x = (train_z - mean) / std
    weight = torch.zeros(x.shape[1], len(classes), dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(len(classes), dtype=x.dtype, requires_grad=True)
    descend = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        descend.zero_grad()
        total = cross_entropy(x @ weight + bias, place) + weight.square().sum() / (2 * len(x))
        total.backward()
        return total

    descend.step(loss)
    return classes[((z - mean) / std @ weight + bias).argmax(1)]


# -------------------------------------------------------------------------------- slimmable network


class SlimBlock(nn.Module):
    """3x3 convolution, norm, ReLU on the leading channels; each width has a BatchNorm of its own.

    Statistics differ from width to width, so a shared norm fails (Yu et al., ICLR 2019, arXiv 1812.08928, section 3.2).
    """

    def __init__(self, channels_in: int, channels: Sequence[int], stride: int) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(channels_in, channels[-1], 3, stride, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels)

    def forward(self, x: Tensor, place: int) -> Tensor:
        """x (B, c_in, H, W) -> (B, c_out, H', W') with the channels of the width at ``place``."""
        norm = self.norms[place]
        weight = self.convolve.weight[: norm.num_features, : x.shape[1]]
        return norm(conv2d(x, weight, None, self.convolve.stride, self.convolve.padding)).relu()


class SlimConvNet(nn.Module):
    """``encoders.ConvNet`` that can also run on a part of its channels: widths 0.25 to 1 share one set of weights.

    Args:
        shape: (C, H, W) of the pictures.
        d: width of the embedding at full width.
        widths: rising shares of the channels, the last 1.
        channels: channels of the first two blocks at full width.
        scale: what turns stored pictures into floats (``encoders.Scale``); none takes floats as they are.

    Raises:
        RequestError: widths that do not rise to 1, or leave a block with no channel or with those of another width.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        d: int,
        widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        channels: tuple[int, int] = (32, 64),
        scale: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not widths or widths[-1] != 1 or min(widths) <= 0:
            raise RequestError(f"widths of a slimmable network are above 0 and end with 1.0; got {list(widths)}.")
        first, second, self.sizes = (check_sizes([round(w * c) for w in widths], c) for c in (*channels, d))
        self.d, self.widths = d, tuple(widths)
        self.scale = scale or nn.Identity()
        colours, height, width = shape
        self.first = SlimBlock(colours, first, 2)
        self.position = nn.Parameter(0.02 * torch.randn(1, first[-1], (height + 1) // 2, (width + 1) // 2))
        self.second = SlimBlock(first[-1], second, 1)
        self.last = SlimBlock(second[-1], self.sizes, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor, width: float = 1.0) -> Tensor:
        """x (B, C, H, W) -> z (B, width * d)."""
        if width not in self.widths:
            raise unknown("width", width, self.widths)
        place = self.widths.index(width)
        x = self.first(self.scale(x), place)
        x = self.second(self.pool(x + self.position[:, : x.shape[1]]), place)  # (B, w0, H/2, W/2) -> (B, w1, H/4, W/4)
        return self.last(self.pool(x), place).mean((2, 3))  # (B, width * d, H/8, W/8) -> (B, width * d)

    def at(self, width: float) -> AtWidth:
        """Return the same network fixed to one width, to embed with."""
        return AtWidth(self, width)


class AtWidth(nn.Module):
    """A slimmable network at one width, weights shared with the whole: x -> z (B, width * d)."""

    def __init__(self, encoder: SlimConvNet, width: float) -> None:
        super().__init__()
        self.encoder, self.width = encoder, width

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x, self.width)


class Slimmable(nn.Module):
    """Slimmable classifier: the loss is the sum of the cross-entropies of all widths, in one step.

    Two ways to get class scores from m dims, by the same columns of the head:

    * the MRL paper's: ``truncated(encoder(x), m)``, full width and cut afterwards, which no loss asked for;
    * as it was trained: ``truncated(encoder(x, width), m)`` with m = width * d, a smaller encoder too.
    """

    def __init__(self, encoder: SlimConvNet, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.d, classes)

    def truncated(self, z: Tensor, m: int) -> Tensor:
        """Return logits (B, C) from the first ``m`` features of z and the first m columns of the head."""
        return linear(prefix(z, m), self.head.weight[:, :m], self.head.bias)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the sum of the losses and the loss of each width, named by its number of dims."""
        each = zip(self.encoder.widths, self.encoder.sizes, strict=True)
        losses = {m: cross_entropy(self.truncated(self.encoder(x, width), m), y) for width, m in each}
        return torch.stack(list(losses.values())).sum(), losses


def slimmable(encoder: Callable[[], SlimConvNet], classes: int, seed: int = 0) -> Slimmable:
    """Build a slimmable classifier whose first weights depend on ``seed`` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Slimmable(encoder(), classes)


# ----------------------------------------------------------------------------------- nesting later

PARTS = {  # which blocks of the encoder are trained, besides the head (MRL, appendix K.1)
    "head": (),
    "last block": ("last",),
    "last two blocks": ("second", "last"),
    "all": None,
}


class PartlyFrozen(nn.Module):
    """A classifier of which only a part is trained; made by :func:`unfreeze`.

    The BatchNorms of frozen blocks stay in evaluation mode whatever mode is asked for: their running statistics
    belong to the frozen weights.
    """

    def __init__(self, model: nn.Module, frozen: Sequence[nn.Module]) -> None:
        super().__init__()
        self.model = model
        self._frozen = tuple(frozen)  # a tuple, so that these are not registered a second time

    @property
    def trainable(self) -> int:
        """Number of parameters that training may change."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def train(self, mode: bool = True) -> PartlyFrozen:
        super().train(mode)
        for block in self._frozen:
            block.eval()
        return self

    def forward(self, *batch: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        return self.model(*batch)


def unfreeze(model: nn.Module, part: str) -> PartlyFrozen:
    """Freeze the encoder of ``model`` but for ``part``, and return what to hand to the training loop.

    Args:
        model: a classifier with an ``encoder``; its blocks are called ``second`` and ``last`` where part names them.
        part: one of :data:`PARTS`; parameters outside the blocks, such as the position map, are trained with "all".

    Raises:
        RequestError: an unknown part, or an encoder without its blocks.
    """
    if part not in PARTS:
        raise unknown("part", part, PARTS)
    blocks = dict(model.encoder.named_children())
    trained = blocks if PARTS[part] is None else PARTS[part]
    missing = [name for name in trained if name not in blocks]
    if missing:
        raise RequestError(f"this encoder has no block {', '.join(missing)}: choose head or all, or a ConvNet.")
    model.encoder.requires_grad_(part == "all")
    for name in trained:
        blocks[name].requires_grad_(True)
    return PartlyFrozen(model, [block for name, block in blocks.items() if name not in trained])
