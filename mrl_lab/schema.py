"""The two tables that every run saves, {column: type} in their order, and the words that budgets, verdicts and bounds
are said in."""

SCORES = {
    "method": "string",
    "seed": "Int64",
    "layer": "Int64",
    "dim": "Int64",
    "tokens": "Int64",
    "metric": "string",
    "value": "float64",
    "n": "Int64",
    "bytes": "Int64",
    "flops": "Int64",
    "seconds": "float64",
}
CLAIMS = {  # "what" is the contrast that "ours" is of; the bounds, the paper's own figure and delta are in its unit
    "id": "string",
    "claim": "string",
    "paper": "string",
    "what": "string",
    "unit": "string",
    "ours": "float64",
    "low": "float64",
    "high": "float64",
    "delta": "float64",
    "seeds": "Int64",
    "headline": "boolean",
    "verdict": "string",
    "note": "string",
    "above": "float64",
    "below": "float64",
    "paper_value": "float64",
    "p": "float64",
}
BUDGETS = ("seconds", "minutes", "hour", "night", "gpu", "paper")  # from weak to strong evidence
NEEDED = {"scores.csv": ("method", "metric", "value"), "claims.csv": ("id", "claim", "verdict")}

SHOWN, CONTRADICTED, AT_THE_BOUND, UNDECIDED = "shown", "contradicted", "at the bound", "undecided"
VERDICTS = {  # each with a sign, so that colour is not the only cue
    SHOWN: "✓",
    CONTRADICTED: "✗",
    AT_THE_BOUND: "=",
    UNDECIDED: "?",
}


def bounds(above: float | None, below: float | None) -> str:
    """Return bounds in words: "≥ −1", "≤ 2" or "−1 to 1"; empty where there are none."""
    low, high = (None if b is None else f"{b:g}".replace("-", "−") for b in (above, below))
    if low and high:
        return f"{low} to {high}"
    return f"≥ {low}" if low else f"≤ {high}" if high else ""
