"""The metric `code_eval` that lm-evaluation-harness uses for HumanEval, with each program in a sandbox.

Same interface and meaning as Hugging Face's metric of that name (a candidate passes if it and its test run to the end),
which needs the network, is not pinned with its library and warns that it is not a sandbox. Here the test, in a process
of its own, calls the candidate's functions with plain data. As there, nothing runs unless HF_ALLOW_CODE_EVAL is 1.
"""

from __future__ import annotations

import os

import datasets
import evaluate
import numpy as np

from prerl.core.errors import UserError
from prerl.core.statistics import pass_at_k
from prerl.evaluation.sandbox import FILES, PROCESSES, Limits, run_program

LIMITS = Limits()


class CodeEval(evaluate.Metric):
    """pass@k of candidate programs against tests."""

    reported = False  # what the kernel closes, once per job

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Sequence(datasets.Value("string")), "references": datasets.Value("string")}
        return evaluate.MetricInfo(
            description=__doc__, citation="", inputs_description="", features=datasets.Features(features)
        )

    def _compute(self, predictions: list[list[str]], references: list[str], k: list[int]) -> tuple[dict, dict]:
        """({"pass@k": mean over tests}, {test: outcomes}); `predictions` holds each test's candidates."""
        if os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
            raise UserError(
                "generated code is not run: set ood.run_generated_code: true in config.yaml, which allows it"
            )
        outcomes = {
            index: [run_program(candidate, test, LIMITS) for candidate in candidates]
            for index, (candidates, test) in enumerate(zip(predictions, references, strict=True))
        }
        self._say(outcomes[0][0].closed)
        totals = np.array([len(each) for each in outcomes.values()])
        passed = np.array([sum(outcome.passed for outcome in each) for each in outcomes.values()])
        return {f"pass@{n}": float(pass_at_k(totals, passed, n).mean()) for n in k}, outcomes

    @classmethod
    def _say(cls, closed: tuple[str, ...]) -> None:
        if not cls.reported:
            parts = (PROCESSES, FILES)
            states = [f"{part}: {'closed' if part in closed else 'OPEN, this kernel cannot'}" for part in parts]
            print(f"generated code runs under {LIMITS}; {'; '.join(states)}", flush=True)
            cls.reported = True
