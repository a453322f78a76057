"""Scenes and talks about them: answers read off the grid by hand, blind guessing at chance, pixels in their place."""

from collections import Counter

import pytest
import torch

from mrl_lab.data import Labelled, Split, load
from mrl_lab.data.asking import KINDS
from mrl_lab.data.questions import Questions, questions
from mrl_lab.data.scenes import scenes
from mrl_lab.data.turns import LLAVA, NOT_LEARNT, Turns, Words, best_blind
from mrl_lab.errors import RequestError

NAMES = ("T-shirt/top", "Ankle boot", "Bag", "Coat", "Dress", "Sandal")
WORDS = tuple("-".join(name.lower().split()) for name in NAMES)


def labelled(shape=(1, 28, 28), per_class=9):
    """Every picture has a brightness of its own, so that a pixel says which picture of which split it is of."""
    splits, shade = [], 1
    for _ in range(3):
        n = per_class * len(NAMES)
        images = torch.arange(shade, shade + n, dtype=torch.uint8)[:, None, None, None].expand(-1, *shape)
        splits.append(Split(images.contiguous(), torch.arange(n) % len(NAMES)))
        shade += n
    return Labelled("shades", {}, *splits, NAMES, (0.5,), (0.5,), [])


DATA = labelled()
MADE = scenes(DATA, train=3000, validation=40, test=3000)


def numbers(text):
    return [int(word) - 1 for word in text.replace("?", "").split() if word.isdigit()]


def slow_answer(question, grid):
    """Read the answer off the grid, from the words of the question alone."""
    rows = [[WORDS[c] if c >= 0 else None for c in row] for row in grid]
    at = numbers(question)
    if question.startswith("how many"):
        return str(sum(name is not None for row in rows for name in row))
    if question.startswith("are there more"):
        left, right = (sum(name is not None for name in rows[r]) for r in at)
        assert left != right, "a question without an answer"
        return "yes" if left > right else "no"
    if question.startswith("what is at"):
        return rows[at[0]][at[1]]
    if question.startswith("list"):
        return " ".join(rows[at[0]])
    thing = question.split()[3].removesuffix("?")
    looked_at = [rows[at[0]]] if "in row" in question else rows
    return "yes" if any(thing in row for row in looked_at) else "no"


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_answers_are_what_the_grid_says(part):
    made = MADE[part]
    assert set(made.kinds) == set(KINDS)
    for i, (question, answer) in enumerate(zip(made.questions, made.answers, strict=True)):
        assert slow_answer(question, made.grids[made.picture[i]].tolist()) == answer, question


def test_pixels_are_the_things_of_the_grid_and_nothing_else():
    made, thing = MADE["test"], 13
    expected = torch.zeros_like(made.images)
    for i in range(200):
        for r in range(2):
            for c in range(2):
                row = int(made.things[i, r, c])
                assert (row < 0) == (made.grids[i, r, c] < 0)
                if row >= 0:
                    assert DATA.test.labels[row] == made.grids[i, r, c]
                    top, left = int(made.corners[i, 0, r]), int(made.corners[i, 1, c])
                    expected[i, :, top : top + thing, left : left + thing] = DATA.test.images[row, 0, 0, 0]
    assert torch.equal(made.images[:200], expected[:200])


def test_20_things_of_a_split_are_of_that_split_alone():
    shades = {part: set(made.images.unique().tolist()) - {0} for part, made in MADE.items()}
    for part, seen in shades.items():
        assert seen <= set(getattr(DATA, part).images.unique().tolist())
    assert not shades["train"] & shades["test"]


def test_things_stray_over_the_borders_of_pooling_windows():
    """On a canvas of 32 the windows of 2 x 2 tokens meet at 16: a third of the things lie on both sides of it."""
    corners = MADE["train"].corners
    assert corners.min() == 0
    assert corners.max() == 32 - 13
    assert (corners.diff(dim=2) >= 13).all()
    across = (corners < 16) & (corners + 13 > 16)
    row, column = across[:, 0, :, None], across[:, 1, None, :]  # (N, cells, 1) and (N, 1, cells) -> (N, cells, cells)
    assert 0.28 < (row | column).double().mean() < 0.4
    assert across.any(1).any(1).double().mean() > 0.5, "scenes with such a thing"


def test_20_the_best_blind_answers_are_at_chance_for_every_kind():
    """The commonest answer to the same words, learnt on train and asked of test: within 3 standard errors of chance."""
    test = MADE["test"]
    right, kinds = best_blind(MADE["train"], test).double(), test.kinds
    for kind, (_, _, chance) in KINDS.items():
        of = torch.tensor([k == kind for k in kinds])
        p, n = chance(2, len(NAMES)), int(of.sum())
        assert n > 400, kind
        assert right[of].mean() <= p + 3 * (p * (1 - p) / n) ** 0.5, kind


def test_words_never_asked_get_the_commonest_answer():
    asked = [Questions(torch.zeros(1, 3, 4, 4), torch.zeros(3).long(), ["a?", "b?", "b?"], list("xyy"))]
    asked.append(Questions(torch.zeros(1, 3, 4, 4), torch.zeros(3).long(), ["a?", "c?", "c?"], list("xyx")))
    assert best_blind(*asked).tolist() == [True, True, False]


def test_20_no_answer_is_commoner_than_chance_for_any_words():
    made = MADE["train"]
    by_words = {}
    for question, answer, kind in zip(made.questions, made.answers, made.kinds, strict=True):
        by_words.setdefault((question, kind), Counter())[answer] += 1
    assert len(by_words) > 15
    for (question, kind), answers in by_words.items():
        p, n = KINDS[kind].chance(2, len(NAMES)), answers.total()
        commonest = answers.most_common(1)[0][1] / n
        assert commonest <= p + 4 * (p * (1 - p) / n) ** 0.5, question


@pytest.mark.parametrize("kind", ["any", "any in row", "more"])
def test_20_yes_and_no_are_balanced_within_two_per_cent(kind):
    for part in ("train", "test"):
        said = [a for a, k in zip(MADE[part].answers, MADE[part].kinds, strict=True) if k == kind]
        assert abs(said.count("yes") / len(said) - 0.5) < 0.02


def test_20_numbers_of_items_are_equally_common():
    counts = Counter(a for a, k in zip(MADE["train"].answers, MADE["train"].kinds, strict=True) if k == "count")
    assert counts == {str(n): 750 for n in range(1, 5)}


def test_scenes_are_fixed_by_the_seed():
    again, other = (scenes(DATA, train=60, test=10, seed=seed) for seed in (1, 2))
    same = scenes(DATA, train=60, test=10, seed=1)
    for part in ("train", "test"):
        assert torch.equal(again[part].images, same[part].images)
        assert (again[part].questions, again[part].answers) == (same[part].questions, same[part].answers)
        assert not torch.equal(again[part].images, other[part].images)
    assert not torch.equal(again["train"].grids[:10], again["test"].grids)


def test_colour_and_other_geometry():
    made = scenes(labelled((3, 32, 32)), train=0, test=30, cells=3, side=96, thing=28, kinds=("cell", "count"))["test"]
    assert made.images.shape == (30, 3, 96, 96)
    assert set(made.kinds) == {"cell", "count"}
    assert all(
        slow_answer(q, made.grids[p].tolist()) == a
        for q, a, p in zip(made.questions, made.answers, made.picture, strict=True)
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"thing": 16}, "canvas of more than 32"),
        ({"cells": 1}, "2 cells"),
        ({"test": 0}, "above it"),
        ({"kinds": ("cel",)}, "Did you mean 'cell'"),
        ({"kinds": ()}, "need a kind"),
        ({"test": 1, "kinds": ("list",), "cells": 5, "side": 96}, "none of 1 scenes"),
    ],
)
def test_scenes_that_cannot_be_are_refused(wrong, words):
    with pytest.raises(RequestError, match=words):
        scenes(DATA, **({"train": 0, "test": 5} | wrong))


def test_a_split_without_a_class_and_data_without_pictures_are_refused():
    few = Labelled("few", {}, *[Split(DATA.train.images[:3], DATA.train.labels[:3])] * 3, NAMES, (0.5,), (0.5,), [])
    with pytest.raises(RequestError, match="class 3 has no picture"):
        scenes(few, train=5, test=0)
    vectors = Labelled("v", {}, *[Split(torch.zeros(6, 4), torch.arange(6))] * 3, NAMES, (0.5,), (0.5,), [])
    with pytest.raises(RequestError, match="pictures"):
        scenes(vectors, train=5, test=0)


@pytest.mark.usefixtures("shared")
def test_real_things_and_real_questions():
    data = load("fashion_mnist", train=400, validation=50, test=200)
    made = scenes(data, train=50, test=50)
    assert made["train"].images.shape == (50, 3, 32, 32)
    assert made["train"].images[made["train"].grids[:, 0, 0] >= 0].float().std() > 20
    row = int(made["test"].things.max())
    assert 50 < row < 200
    asked = questions("easy_vqa")["test"]  # the same rows of tokens from a set that nobody here made
    turns = Turns(asked, Words([*asked.questions, *asked.answers]).encode)
    images, ids, labels = turns[torch.arange(4)]
    assert images.shape == (4, 3, 64, 64)
    assert ids.shape == labels.shape


# --------------------------------------------------------------------------------------------- turns

VOCABULARY = Words([*MADE["train"].questions, *MADE["train"].answers])


def test_words_come_back_and_unknown_ones_are_refused_with_the_nearest():
    text = "is there any t-shirt/top in row 1 ?"
    assert VOCABULARY.decode(VOCABULARY.encode(text)) == text
    assert VOCABULARY.decode([*VOCABULARY.encode("no"), 2, 7, 7]) == "no"
    assert VOCABULARY.encode("<image> Bag") == [1, VOCABULARY.encode("bag")[0]]
    with pytest.raises(RequestError, match=r"'sandals'.*nearest is 'sandal'"):
        VOCABULARY.encode("any sandals?")


def test_9_answers_alone_are_learnt_and_every_token_is_accounted_for():
    made = MADE["validation"]
    turns = Turns(made, VOCABULARY.encode)
    images, ids, labels = turns[torch.arange(len(turns))]
    assert len(turns) == len(made.images)
    for i, order in enumerate(turns.turns):
        assert torch.equal(images[i], made.images[made.picture[order[0]]])
        expected, learnt = [1], []
        for q in order:
            expected += VOCABULARY.encode(made.questions[q]) + VOCABULARY.encode(made.answers[q]) + [2]
            learnt += [*VOCABULARY.encode(made.answers[q]), 2]
        assert ids[i, : len(expected)].tolist() == expected
        assert (ids[i, len(expected) :] == 0).all()
        assert (labels[i, len(expected) :] == NOT_LEARNT).all()
        assert labels[i, labels[i] >= 0].tolist() == learnt
        assert (ids[i] == 1).sum() == 1


def test_21_every_kind_stands_at_every_turn_equally_often():
    made = MADE["train"]
    turns = Turns(made, VOCABULARY.encode)
    full = [[made.kinds[q] for q in order] for order in turns.turns if len(order) == 6]
    assert len(full) > 800
    for place in range(6):
        counts = Counter(order[place] for order in full)
        error = (len(full) * (1 / 6) * (5 / 6)) ** 0.5
        assert all(abs(counts[kind] - len(full) / 6) < 4 * error for kind in KINDS)
    assert turns.turns == Turns(made, VOCABULARY.encode).turns
    assert turns.turns != Turns(made, VOCABULARY.encode, seed=1).turns


def test_alone_each_question_is_a_row_in_order_and_prompts_end_before_the_answer():
    made = MADE["validation"]
    turns = Turns(made, VOCABULARY.encode, alone=True)
    assert len(turns) == len(made)
    index = torch.tensor([3, 0, 5])
    _, ids, _ = turns[index]
    images, prompts, mask = turns.prompts(index)
    for i, q in enumerate(index.tolist()):
        prompt = [1, *VOCABULARY.encode(made.questions[q])]
        assert prompts[i, mask[i]].tolist() == prompt == ids[i, : len(prompt)].tolist()
        assert not mask[i, : len(mask[i]) - len(prompt)].any()
        assert torch.equal(images[i], made.images[made.picture[q]])


def test_the_prompt_of_llava():
    one = Questions(torch.zeros(1, 3, 4, 4), torch.tensor([0, 0]), ["what?", "why?"], ["this", "that"])
    letters = Turns(one, lambda text: [ord(c) for c in text], talk=LLAVA, begin=(1,), end=2)
    _, ids, labels = letters[torch.tensor([0])]
    first, second = letters.turns[0]
    text = "".join(chr(i) for i in ids[0] if i > 2)
    assert text == (
        f"USER: <image>\n{one.questions[first]} ASSISTANT:{one.answers[first]}"
        f"USER: {one.questions[second]} ASSISTANT:{one.answers[second]}"
    )
    assert ids[0, 0] == 1
    assert labels[0, 0] == NOT_LEARNT


@pytest.mark.parametrize(
    ("picture", "asked", "answers", "words"),
    [
        ([0, 2], ["a", "b"], ["c", "d"], "question 1 .*picture 2.*0 to 1"),
        ([0, 1], ["a", " "], ["c", "d"], "question 1 is empty"),
        ([0, 1], ["a", "b"], ["", "d"], "answer 0 is empty"),
        ([0, 1], ["a", "b"], ["c"], "2 questions, 1 answers"),
        ([], [], [], "at least one question"),
    ],
)
def test_questions_that_do_not_hang_together_are_refused(picture, asked, answers, words):
    broken = Questions(torch.zeros(2, 3, 4, 4), torch.tensor(picture, dtype=torch.long), asked, answers)
    with pytest.raises(RequestError, match=words):
        Turns(broken, lambda text: [5])
