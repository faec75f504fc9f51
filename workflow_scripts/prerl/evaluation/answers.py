"""The key of a sampled answer, shared by the tables samples, grades and thoughts (pyarrow only)."""

from collections import Counter
from pathlib import Path

import pyarrow as pa

SAMPLE_KEY = ("update", "benchmark", "question", "sample")
SAMPLE_KEY_FIELDS = [
    pa.field("update", pa.int32()),
    pa.field("benchmark", pa.string()),
    pa.field("question", pa.string()),
    pa.field("sample", pa.int32()),
]


def check_unique_samples(table: pa.Table, path: Path) -> None:
    """Raise ValueError if `table`, read from `path`, is empty or holds an answer twice."""
    keys = Counter(zip(*(table[name].to_pylist() for name in SAMPLE_KEY), strict=True))
    twice = [key for key, rows in keys.items() if rows > 1]
    if twice or not keys:
        found = f"the answer {SAMPLE_KEY} = {twice[0]} occurs more than once" if twice else "it holds no answers"
        raise ValueError(f"{path}: {found}; delete it and its sampling state, and run generate_samples again")
