"""LLaVA (Liu et al., NeurIPS 2023) in steps: a picture to visual tokens, these into the text, logits at the answers.

transformers' ``LlavaForConditionalGeneration`` does all of it at once and with one number of visual tokens. Taken
apart, the tower runs once for many numbers of tokens, the language model takes however many it is given, and the
head makes logits at answer positions only (of 576 + 60 positions of LLaVA-1.5, for a one-word answer: 2).

With all tokens, logits and generation are those of transformers, which tests hold to.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mrl_lab.encoders.pictures import Scale
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of 0..1

# -------------------------------------------------------------------------------- the place in the text


def place_of(ids: Tensor, image_token: int) -> Tensor:
    """Return the column (B,) of the one image token in each row of ids (B, T).

    Raises:
        RequestError: no words beside it, a row with none, or with several (a processor's run: see :func:`collapse`).
    """
    if ids.ndim != 2 or ids.shape[1] < 2:
        raise RequestError(f"a question is empty: ids (B, T) hold an image token and words; got {tuple(ids.shape)}.")
    found = ids == image_token
    counts = found.sum(1)
    if (counts != 1).any():
        row = int((counts != 1).nonzero()[0])
        raise RequestError(
            f"row {row} has {int(counts[row])} image tokens (id {image_token}): a question needs exactly one, "
            "whatever the scale; collapse() makes one of the run that a processor writes."
        )
    return found.int().argmax(1)


def collapse(ids: Tensor, image_token: int) -> Tensor:
    """Return ids (B, T) with each run of image tokens made one, as a processor's prompts need: (B, T - run + 1)."""
    again = (ids[:, 1:] == image_token) & (ids[:, :-1] == image_token)
    keep = torch.cat([torch.ones_like(again[:, :1]), ~again], 1)
    kept = keep.sum(1)
    if (kept != kept[0]).any():
        raise RequestError(f"rows hold runs of image tokens of different lengths: {(~keep).sum(1).add(1).tolist()}.")
    return ids[keep].view(len(ids), -1)  # (B (T - run + 1),) -> (B, T - run + 1)


def sources(place: Tensor, length: int, t: int) -> Tensor:
    """Return the text column (B, T - 1 + t) that each position comes from when t tokens stand at ``place`` (B,)."""
    j, place = torch.arange(length - 1 + t, device=place.device)[None], place[:, None]
    return torch.where(j < place, j, torch.where(j < place + t, place, j - t + 1))


def expand(ids: Tensor, image_token: int, t: int) -> Tensor:
    """Return ids (B, T) with t image tokens in the place of the one: (B, T - 1 + t), what stock LLaVA takes."""
    return ids.gather(1, sources(place_of(ids, image_token), ids.shape[1], t))


def check_answers(labels: Tensor, ids: Tensor, image_token: int, words: int) -> None:
    """Raise RequestError unless every row of labels (B, T) has an answer, and all but the image is below ``words``."""
    if labels.shape != ids.shape:
        raise RequestError(f"labels {tuple(labels.shape)} and ids {tuple(ids.shape)} must have one shape.")
    if not (labels[:, 1:] >= 0).any(1).all() or (labels[:, 0] >= 0).any():
        raise RequestError("each row of labels needs an answer, and its first token cannot belong to one.")
    largest = int(torch.maximum(ids.masked_fill(ids == image_token, 0), labels).max())
    if largest >= words:
        raise RequestError(f"a question or an answer holds id {largest}, but the vocabulary ends at {words - 1}.")


# ------------------------------------------------------------------------------------------- model


class Llava(nn.Module):
    """A LLaVA whose visual tokens are the caller's to make fewer.

    Args:
        body: from :mod:`mrl_lab.encoders.llava_weights`, or any of transformers' own.
        train_tower, train_language: False freezes these weights; the projector always learns.
        mean, std: of uint8 pictures scaled to 0..1, by channel; float pictures are taken as a processor made them.

    Attributes:
        tokens: N, the visual tokens of a picture: 576 for LLaVA-1.5.
    """

    def __init__(
        self,
        body: LlavaForConditionalGeneration,
        *,
        train_tower: bool = True,
        train_language: bool = True,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        super().__init__()
        self.body, self.train_tower, self.scale = body, train_tower, Scale(mean, std)
        body.model.vision_tower.requires_grad_(train_tower)
        body.model.language_model.requires_grad_(train_language)
        body.lm_head.requires_grad_(train_language)
        side = body.config.vision_config.image_size // body.config.vision_config.patch_size
        self.tokens = side * side + (body.config.vision_feature_select_strategy == "full")  # "full": the class token

    def patches(self, images: Tensor) -> Tensor:
        """Return the tower's features (B, N, width) of images (B, C, side, side), as the configuration chooses them.

        LLaVA-1.5 takes the last layer but one, without the class token; layers behind it get no gradient.

        Raises:
            RequestError: pictures of another size or mode.
        """
        config, tower = self.body.config, self.body.model.vision_tower
        vision = config.vision_config
        shape = (vision.num_channels, vision.image_size, vision.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != shape:
            raise RequestError(f"pictures must be (B, {shape[0]}, {shape[1]}, {shape[2]}); got {tuple(images.shape)}.")
        pixels = self.scale(images) if images.dtype == torch.uint8 else images
        with nullcontext() if self.train_tower else torch.no_grad():
            states = tower(pixels.to(tower.dtype), output_hidden_states=True).hidden_states
        layers = config.vision_feature_layer
        chosen = states[layers] if isinstance(layers, int) else torch.cat([states[n] for n in layers], -1)
        return chosen[:, 1:] if config.vision_feature_select_strategy == "default" else chosen

    def project(self, features: Tensor) -> Tensor:
        """Features (B, t, width) -> visual tokens (B, t, d) of the language model's width."""
        return self.body.model.multi_modal_projector(features)

    def no_tokens(self, rows: int) -> Tensor:
        """Return what a blind model sees: (rows, 0, d)."""
        return self.body.lm_head.weight.new_empty(rows, 0, self.body.config.text_config.hidden_size)

    def inputs(self, tokens: Tensor, ids: Tensor, place: Tensor) -> Tensor:
        """Return the language model's inputs (B, T - 1 + t, d): tokens (B, t, d) at ``place`` (B,) of ids (B, T).

        The image token need not be in the vocabulary, as in checkpoints in LLaVA's own format.

        Raises:
            RequestError: as many pictures as questions are needed.
        """
        if len(tokens) != len(ids):
            raise RequestError(f"{len(tokens)} pictures for {len(ids)} questions: give one picture a row.")
        source = sources(place, ids.shape[1], tokens.shape[1])
        image = source == place[:, None]
        text = self.body.get_input_embeddings()(ids.gather(1, source).masked_fill(image, 0))  # (B, T - 1 + t, d)
        return text.masked_scatter(image[..., None], tokens.to(text.dtype))

    def states(self, inputs: Sequence[Tensor], packed: bool = False) -> list[Tensor]:
        """Return the last hidden states of each of ``inputs`` (B, length, d).

        Packed, all are one sequence in which positions begin at 0 again for each, from which transformers makes a
        block-diagonal causal mask.
        """
        language, lengths = self.body.model.language_model, [x.shape[1] for x in inputs]
        if not packed or len(inputs) == 1:
            return [language(inputs_embeds=x, use_cache=False).last_hidden_state for x in inputs]
        row = torch.cat(list(inputs), 1)  # S x (B, length, d) -> (B, sum of lengths, d)
        positions = torch.cat([torch.arange(n, device=row.device) for n in lengths])[None]
        states = language(inputs_embeds=row, position_ids=positions, use_cache=False).last_hidden_state
        return list(states.split(lengths, 1))

    def logits(
        self, visual: Sequence[Tensor], ids: Tensor, labels: Tensor, packed: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (S, answers, words) at answer tokens only, those tokens (answers,) and their rows (answers,).

        Args:
            visual: S sets of visual tokens, each (B, t, d) with its own t.
            ids: (B, T), one image token a row, padded on the right, where causal attention never looks.
            labels: (B, T), the ids of answers, negative where nothing is to be learnt.

        Raises:
            RequestError: pictures, questions or answers that do not go together.
        """
        image_token = self.body.config.image_token_id
        check_answers(labels, ids, image_token, self.body.config.text_config.vocab_size)
        place = place_of(ids, image_token)
        states = self.states([self.inputs(tokens, ids, place) for tokens in visual], packed)
        row, column = (labels >= 0).nonzero(as_tuple=True)
        after = column > place[row]  # what comes after the picture is shifted by its t - 1 more tokens
        shifts = [(tokens.shape[1] - 1) * after for tokens in visual]
        picked = [h[row, column - 1 + shift] for h, shift in zip(states, shifts, strict=True)]  # says the next token
        return self.body.lm_head(torch.stack(picked)), labels[row, column], row

    @torch.no_grad()
    def generate(self, tokens: Tensor, ids: Tensor, mask: Tensor | None = None, **how) -> Tensor:
        """Return the ids of new tokens (B, n) after prompts, greedy unless ``how`` says otherwise.

        Args:
            tokens: (B, t, d) visual tokens.
            ids: (B, T) prompts; mask: (B, T), False where they are padded, which is on the **left** here.
            how: goes to transformers' ``generate``, such as max_new_tokens.
        """
        place = place_of(ids, self.body.config.image_token_id)
        inputs = self.inputs(tokens, ids, place)
        seen = torch.ones_like(ids) if mask is None else mask.long()
        seen = seen.gather(1, sources(place, ids.shape[1], tokens.shape[1]))
        return self.body.generate(inputs_embeds=inputs, attention_mask=seen, **{"do_sample": False, **how})
