"""Student and teacher (DINOv2, arXiv 2304.07193): one network learns what its own moving average says of other views.

    L = sum over levels m of (class_m + patch_m) + 0.1 (KoLeo(z of crop 1) + KoLeo(z of crop 2))
    theta_t <- mu theta_t + (1 - mu) theta_s,    mu = 1 - (1 - mu_0) (1 + cos(pi step / steps)) / 2

The teacher sees the two large crops whole; the student sees them with patches hidden, and the small crops. The
teacher's temperature rises from 0.04 to 0.07 in the first 6 % of the steps (30 of 500 epochs).

How we differ: weight decay, rates and clipping are the training loop's. The release lets weight decay rise (0.04 to
0.2), slows the patch embedding to a fifth, and clips encoder, class head and patch head each by itself. Prototypes are
not frozen at the start (0.2 % of the paper's steps, less than one of ours). Watched on the way, and logged: how many
prototypes are nearest to some crop of the teacher's and how evenly (balanced targets would hide a collapse), and the
spread of its features.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from mrl_lab import shares
from mrl_lab.distil.assign import ASSIGNMENTS
from mrl_lab.distil.losses import class_loss, koleo, patch_loss
from mrl_lab.errors import RequestError, unknown


class Branch(nn.Module):
    """Student or teacher: an encoder, a class head and, if patches are learned, a patch head.

    Heads have ``counts``, {m: K_m}, and turn z (n, d) into {m: scores (n, K_m)}.

    Raises:
        RequestError: a patch head on an encoder that has no ``tokens(x, mask)``.
    """

    def __init__(self, encoder: nn.Module, class_head: nn.Module, patch_head: nn.Module | None = None) -> None:
        super().__init__()
        if patch_head is not None and not hasattr(encoder, "tokens"):
            raise RequestError(
                f"{type(encoder).__name__} gives no patch tokens: use encoders.patches.PatchViT, or patches=False."
            )
        self.encoder, self.class_head, self.patch_head = encoder, class_head, patch_head

    def features(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return class tokens (n, d) and patch tokens (n, t, d) of x (n, C, H, W); ``mask`` (n, t) hides patches."""
        if self.patch_head is None:
            return self.encoder(x), None
        tokens = self.encoder.tokens(x, mask)
        return tokens[:, 0], tokens[:, 1:]  # (n, 1 + t, d) -> (n, d), (n, t, d)


class SelfDistillation(nn.Module):
    """forward(large, small, masks) gives what the training loop needs; :meth:`after_step` is for its hook of that name.

    Evaluate ``teacher.encoder``.

    Args:
        student: its copy becomes the teacher.
        steps: of the whole training, for the schedules.
        targets: "sinkhorn" (Franca) or "centring" (DINO).
        momentum: mu_0; 1 freezes the teacher.
        temperatures: of the teacher, from and to, over the first ``warm_up`` of the steps.
        student_temperature: of the student.
        koleo_weight: 0.1 in the paper, whatever the number of levels.
    """

    def __init__(
        self,
        student: Branch,
        steps: int,
        *,
        targets: str = "sinkhorn",
        momentum: float = 0.994,
        temperatures: tuple[float, float] = (0.04, 0.07),
        warm_up: float = 0.06,
        student_temperature: float = 0.1,
        koleo_weight: float = 0.1,
    ) -> None:
        super().__init__()
        if targets not in ASSIGNMENTS:
            raise unknown("targets", targets, ASSIGNMENTS)
        if steps < 1 or not 0 <= momentum <= 1 or min(*temperatures, student_temperature) <= 0:
            heat = (*temperatures, student_temperature)
            raise RequestError(
                "self-distillation needs at least 1 step, a momentum from 0 to 1 and temperatures above 0; "
                f"got {steps}, {momentum}, {heat}."
            )
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.class_targets = self._targets(targets, student.class_head)
        self.patch_targets = self._targets(targets, student.patch_head)
        self.steps, self.momentum, self.temperatures = steps, momentum, temperatures
        self.warm_up, self.student_temperature, self.koleo_weight = warm_up, student_temperature, koleo_weight
        self.register_buffer("step", torch.zeros((), dtype=torch.long))  # a buffer, so that checkpoints hold it
        self.train()

    @staticmethod
    def _targets(kind: str, head: nn.Module | None) -> nn.ModuleDict:
        counts = {} if head is None else head.counts
        return nn.ModuleDict({str(m): ASSIGNMENTS[kind](prototypes) for m, prototypes in counts.items()})

    def train(self, mode: bool = True) -> SelfDistillation:
        """The teacher stays in evaluation mode: no dropped paths, no batch statistics of its own."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, large: Tensor, small: Tensor, masks: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L, and its terms by level; "m used", "m entropy" and "spread" are watched, not summed.

        Args:
            large: (B, 2, C, H, W). small: (B, L, C, h, w); L may be 0.
            masks: (B, 2, t) bool, true where the student is not shown a patch; only for a branch with a patch head.

        Raises:
            RequestError: masks missing, or given without a use; a single picture.
        """
        if (masks is None) != (self.student.patch_head is None):
            wrong = "needs masks (B, 2, t)" if masks is None else "without a patch head takes no masks"
            raise RequestError(f"self-distillation {wrong}: give MultiCrop masks= exactly if patches are learned.")
        x, hidden = _by_view(large), None if masks is None else _by_view(masks)  # (2 B, C, H, W), (2 B, t)
        with torch.no_grad():
            whole = self.teacher.features(x)
        seen = self.student.features(x, hidden)
        classes = torch.cat([seen[0], self.student.features(_by_view(small))[0]]) if small.shape[1] else seen[0]
        first, patches, classes, *whole, hidden = (_of_all(z, len(large)) for z in (*seen, classes, *whole, hidden))
        losses, watched = self._classes(classes, whole[0], len(first) // 2)
        if hidden is not None:
            losses |= self._patches(patches, whole[1], hidden)
        losses["koleo"] = self.koleo_weight * sum(koleo(z) for z in first.chunk(2))
        return torch.stack(list(losses.values())).sum(), losses | watched

    def _classes(self, student: Tensor, teacher: Tensor, b: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Class loss of each level from class tokens (V B, d) and (2 B, d), and what is watched."""
        scores, wanted, losses = self.student.class_head(student), self._wanted("class", teacher), {}
        watched = {"spread": teacher.float().std(0).mean()}
        for m in scores:
            targets = self.class_targets[str(m)](wanted[m], self.temperature())
            views, crops = scores[m].unflatten(0, (-1, b)), targets.unflatten(0, (2, b))  # (V B, K) -> (V, B, K)
            losses[f"{m} class"] = class_loss(views, crops, self.student_temperature)
            watched |= {f"{m} used": used(wanted[m]), f"{m} entropy": evenness(wanted[m])}
        return losses, watched

    def _patches(self, student: Tensor, teacher: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        """Patch loss of each level from patch tokens (2 B, t, d), at the places that are hidden (2 B, t)."""
        scores, wanted, losses = self.student.patch_head(student[hidden]), self._wanted("patch", teacher[hidden]), {}
        for m in scores:
            targets = self.patch_targets[str(m)](wanted[m], self.temperature())
            losses[f"{m} patch"] = patch_loss(scores[m], targets, hidden, self.student_temperature)
        return losses

    @torch.no_grad()
    def _wanted(self, name: str, z: Tensor) -> dict[int, Tensor]:
        return getattr(self.teacher, f"{name}_head")(z)

    def temperature(self) -> Tensor:
        """Return the teacher's temperature at this step, a scalar on the model's device (no waiting for the card)."""
        low, high = self.temperatures
        return low + (high - low) * (self.step / max(1.0, self.warm_up * self.steps)).clamp(max=1)

    def momentum_at(self, step: int) -> float:
        """Return mu of ``step``, which rises from mu_0 to 1 by a cosine."""
        return 1 - (1 - self.momentum) * (1 + math.cos(math.pi * step / self.steps)) / 2

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Move the teacher towards the student; buffers, such as BatchNorm's statistics, are copied."""
        share = 1 - self.momentum_at(step)
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast, share)
        for slow, fast in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            slow.copy_(fast)
        self.step.fill_(step + 1)


def _by_view(x: Tensor) -> Tensor:
    """(B, V, ...) -> (V B, ...): all pictures of the first view, then all of the second."""
    return x.transpose(0, 1).flatten(0, 1)


def _of_all(x: Tensor | None, b: int) -> Tensor | None:
    """(V b, ...) of this process's b pictures -> (V B, ...) of those of all processes, view by view."""
    return None if x is None else shares.gather(x.unflatten(0, (-1, b)), 1).flatten(0, 1)


def used(scores: Tensor) -> Tensor:
    """Return which share of the prototypes is nearest to some sample of scores (n, K); the most there can be is 1."""
    n, prototypes = scores.shape
    hit = torch.zeros(prototypes, device=scores.device).index_fill_(0, scores.argmax(1), 1.0)
    return hit.sum() / min(n, prototypes)


def evenness(scores: Tensor) -> Tensor:
    """Return the entropy of how often each prototype is nearest to a sample of scores (n, K), over log min(n, K).

    1: all equally often; 0: one prototype has all samples.
    """
    n, prototypes = scores.shape
    share = scores.argmax(1).bincount(minlength=prototypes) / n
    return torch.special.entr(share).sum() / math.log(max(2, min(n, prototypes)))
