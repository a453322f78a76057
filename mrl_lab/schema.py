"""The two tables that every run saves, {column: type} in their order, and the words that a verdict is said in."""

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
CLAIMS = {
    "id": "string",
    "claim": "string",
    "paper": "string",
    "ours": "float64",
    "low": "float64",
    "high": "float64",
    "seeds": "Int64",
    "verdict": "string",
    "note": "string",
}
NEEDED = {"scores.csv": ("method", "metric", "value"), "claims.csv": ("id", "claim", "verdict")}

SHOWN, NOT_SHOWN, INCONCLUSIVE = "shown", "not shown", "inconclusive"
VERDICTS = {
    SHOWN: "✓",
    NOT_SHOWN: "✗",
    INCONCLUSIVE: "?",
}  # each with a sign, so that colour is not the only cue
