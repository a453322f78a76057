"""Claims about making finished vectors smaller, as data: the nested adaptor's, and those of its rival, sparse codes.

Methods are ways with a form of storage, "adaptor, int8"; what has no seed stands in the table once for every seed. A
size is one of the page's, and active numbers are as many.
"""

from __future__ import annotations

from collections.abc import Sequence

from mrl_lab.contrasts import cell, difference
from mrl_lab.verdicts import Claim, Condition


def claims(metric: str, small: int, active: Sequence[int]) -> list[Claim]:
    """Return the claims A1 and A2 of the adaptor, S1 and S2 of sparse codes where some are ``active``.

    Args:
        metric: of the tidy table. small: the size that A1 speaks of. active: k of the codes, sizes all of them.
    """

    def ahead(other: str) -> Condition:
        gain = difference("adaptor, float32", f"{other}, float32", metric, dim=small)
        return Condition(gain, f"adaptor − {other}, {metric}, {small} numbers", above=3.0)

    adaptor = [
        Claim(
            "A1",
            f"Learnt without a label, an adaptor beats a plain prefix of {small} numbers by 3 points",
            "up to six times fewer numbers at no loss",
            ahead("prefix"),
        ),
        Claim(
            "A2",
            f"and a rotation, which costs nothing, by 3 points at {small} numbers",
            "not compared",
            ahead("rotation"),
        ),
    ]
    return adaptor + (_sparse(metric, active) if active else [])


def _sparse(metric: str, active: Sequence[int]) -> list[Claim]:
    alike = {f"{k} active": difference("sparse codes, float32", "prefix, float32", metric, dim=k) for k in active}
    bytes_ = {
        f"{k} active against {2 * k}": cell("sparse codes, int8", metric, dim=k)
        - cell("adaptor, int8", metric, dim=2 * k)
        for k in active
    }
    return [
        Claim(
            "S1",
            "At as many active numbers, sparse codes beat a plain prefix",
            "by large margins",
            Condition(alike, f"sparse codes − prefix, {metric}", above=0.0),
        ),
        Claim(
            "S2",
            "They do at equal bytes too: k values and indices of int8, 3 k bytes, beat an adaptor's 2 k",
            "not compared",
            Condition(bytes_, f"sparse codes − adaptor, int8, {metric}", above=0.0),
        ),
    ]
