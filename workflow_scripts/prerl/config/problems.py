"""Block `data`: training problems and benchmarks, generated, from files that a checksum pins, or the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prerl.config.key import COUNT, NAME, NOT_NEGATIVE, TEXT, Limits, key

SHA256 = Limits(pattern="^[0-9a-f]{64}$", remedy="give the 64 hex digits that sha256sum prints")
HTTPS = Limits(pattern="^https://", remedy="give an address that begins with https://")
FILE_NAME = Limits(
    pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$", remedy="give the name that the file has in a mirror, without a folder"
)
MIRROR = Limits(
    pattern="^(https?://[^/]|(?!.*://).)",
    remedy="give a folder, an address that begins with http:// or https://, or null",
)


@dataclass(frozen=True)
class GeneratedProblems:
    """Chains of arithmetic on one digit, modulo 10: their value, or the first digit that gives it."""

    operations: list[int] = key("numbers of operations of a problem, drawn uniformly", COUNT, unique=True)
    questions: int = key("number of different problems", COUNT)
    search: bool | None = key("whether the value is given and the first digit asked for", optional=True)


@dataclass(frozen=True)
class Sums:
    """What is a plus b, of two whole numbers: a task for a small language model."""

    largest: int = key("each number is at least 0 and at most this", COUNT)
    questions: int = key("number of different problems", COUNT)


@dataclass(frozen=True)
class ProblemFile:
    """A problem file at a public address."""

    url: str = key("public address, asked after the mirror", HTTPS)
    name: str = key("the file's name in a mirror", FILE_NAME)
    sha256: str = key("determines the file: changing url or mirror reruns nothing", SHA256)
    format: Literal["verl", "minerva", "olympiadbench"] = key("layout of the file")
    questions: int = key("number of different problems in it, of these levels, asserted", COUNT)
    levels: list[str] | None = key("only problems of these levels, as the file names them", TEXT, optional=True)


@dataclass(frozen=True)
class Columns:
    """Which columns of a file of your own hold what; the others reach your reward function in `row`."""

    problem: str = key("the text that becomes the prompt", TEXT)
    answer: str = key("the right answer: text, or a whole number", TEXT)


@dataclass(frozen=True)
class OwnProblems:
    """Problems of your own. An edit of the file remakes them and all after them."""

    path: str = key("a .jsonl, .csv or .parquet file, or a folder that `save_to_disk` of `datasets` wrote", TEXT)
    columns: Columns = key("where problem and answer stand")
    questions: int = key("number of different problems in it, asserted", COUNT)
    sha256: str | None = key(
        "refuses any other content; data/{set}.json in the results names the one that was read", SHA256, optional=True
    )


@dataclass(frozen=True)
class TrainingProblems:
    """The problems that are trained on: exactly one of the keys."""

    one_of = ("generated", "sums", "file", "own")
    generated: GeneratedProblems | None = key("chains made here", optional=True)
    sums: Sums | None = key("sums made here", optional=True)
    file: ProblemFile | None = key("downloaded", optional=True)
    own: OwnProblems | None = key("read from your disk", optional=True)


@dataclass(frozen=True)
class Benchmark(TrainingProblems):
    """A set of problems to evaluate on."""

    role: Literal["main", "ood", "alignment"] = key(
        "main: part of the mean over benchmarks; ood: reported separately; alignment: for the gradient alignment alone"
    )


@dataclass(frozen=True)
class DataSettings:
    """Problems to train on and to evaluate on."""

    seed: int = key("of generated problems, which are the same for every training seed", NOT_NEGATIVE)
    mirror: str | None = key(
        "folder (relative to the working directory) or address with the files by name; tried first", MIRROR
    )
    train: TrainingProblems = key("training problems", source="MATH train, 7,500 problems (A)")
    benchmarks: dict[str, Benchmark] = key("name -> problems", names=NAME, source="six sets (B)")
