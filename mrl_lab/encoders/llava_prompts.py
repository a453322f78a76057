"""What a LLaVA-1.5 is shown: a picture made ready, and a prompt around the one place of the picture, in both formats.

* transformers' format: the folder's own processor and tokenizer, and ``USER: <image>\\n{question} ASSISTANT:``, the
  form that its card gives.
* LLaVA's own, in which the M3 checkpoints are: a picture is filled up to a square with CLIP's mean colour
  (``image_aspect_ratio: pad``), then goes CLIP's way; the same turn follows a sentence of Vicuna's, and the words
  before and after the picture become tokens apart, with one beginning of text (its ``tokenizer_image_token``).

A prompt has **one** image token, whatever the number of visual tokens: :class:`mrl_lab.encoders.llava.Llava` puts them
in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from mrl_lab.encoders import llava_weights, weights
from mrl_lab.encoders.llava import CLIP_MEAN
from mrl_lab.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import BaseImageProcessor, LlavaConfig, PreTrainedTokenizerBase

PICTURE = "<image>"
TURN = ("USER: ", "\n{question} ASSISTANT:")  # before and after the picture
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. "
)
WORDS = (
    "Put tokenizer.json of llava-hf/llava-1.5-7b-hf into the folder, whose words are the same; or, where there is a "
    "tokenizer.model, install sentencepiece and protobuf."
)


@dataclass(frozen=True, eq=False)
class Prompts:
    """How pictures and questions become what a checkpoint reads; see :func:`of`.

    Attributes:
        image_token: the id that marks the place of the picture. own: in LLaVA's own format. pads: pictures to a square.
    """

    tokenizer: PreTrainedTokenizerBase
    processor: BaseImageProcessor
    image_token: int
    own: bool
    pads: bool

    def picture(self, picture: Image) -> Tensor:
        """Return a picture as the tower takes it, (3, side, side)."""
        picture = picture.convert("RGB")
        ready = self.processor(squared(picture) if self.pads else picture, return_tensors="pt")
        return ready["pixel_values"][0]

    def question(self, question: str) -> list[int]:
        """Return the ids of a prompt with one image token.

        Raises:
            RequestError: the question holds the mark of a picture itself.
        """
        if PICTURE in question:
            raise RequestError(f"a question holds {PICTURE!r}, which marks the place of the picture: {question!r}.")
        before, after = TURN[0], TURN[1].format(question=question)
        if not self.own:
            return self.tokenizer(before + PICTURE + after).input_ids
        first, then = (self.tokenizer(t, add_special_tokens=False).input_ids for t in (VICUNA + before, after))
        return [self.tokenizer.bos_token_id, *first, self.image_token, *then]

    def answer(self, ids: Sequence[int] | Tensor) -> str:
        """Return the words of an answer's ids."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()


def of(name_or_path: str, config: LlavaConfig) -> Prompts:
    """Return how a checkpoint is asked, from its folder or the hub.

    Args:
        config: of the model that :func:`mrl_lab.encoders.llava_weights.pretrained` opened.

    Raises:
        RequestError: it has no words, or no processor, or its words do not know a picture.
    """
    from transformers import AutoImageProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    own, pads = llava_weights.format_of(name_or_path)
    words = _tokenizer(name_or_path)
    if own:
        side = config.vision_config.image_size
        processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    else:
        with weights.reading(name_or_path, "processor of a LLaVA", llava_weights.ADVICE), weights.quietly():
            processor = AutoImageProcessor.from_pretrained(name_or_path, trust_remote_code=False)
    prompts = Prompts(words, processor, config.image_token_id, own, pads)
    if prompts.question("?").count(config.image_token_id) != 1:
        raise RequestError(
            f"the words of {name_or_path!r} do not make {PICTURE!r} token {config.image_token_id}, which its model "
            f"takes for the picture. {WORDS}"
        )
    return prompts


def squared(picture: Image) -> Image:
    """Return an RGB picture in the middle of a square of CLIP's mean colour, as LLaVA's own code fills it up."""
    from PIL import Image as images

    side = max(picture.size)
    filled = images.new("RGB", (side, side), tuple(int(255 * mean) for mean in CLIP_MEAN))
    filled.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return filled


def _tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    """Return the words of a checkpoint: tokenizer.json as it is, else what tokenizer.model holds."""
    from transformers import LlamaTokenizer, PreTrainedTokenizerFast
    from transformers.utils import has_file, is_protobuf_available, is_sentencepiece_available

    with weights.reading(name_or_path, "tokenizer of a LLaVA", WORDS), weights.quietly():
        if has_file(name_or_path, "tokenizer.json"):
            return PreTrainedTokenizerFast.from_pretrained(name_or_path)
        can = is_sentencepiece_available() and is_protobuf_available()
        if not can or not has_file(name_or_path, "tokenizer.model"):  # transformers would go on without a word
            raise RequestError(f"no tokenizer of a LLaVA at {name_or_path!r}: there is no tokenizer.json. {WORDS}")
        return LlamaTokenizer.from_pretrained(name_or_path)
