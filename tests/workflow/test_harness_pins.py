"""ood.tasks of config.yaml against the tasks of the installed lm-evaluation-harness; no data is fetched."""

import json
import subprocess

import pytest

from checkouts import ROOT
from prerl.config.scales import read_files

PYTHON = ROOT / ".venv-vllm/bin/python"
if not PYTHON.with_name("lm_eval").exists():
    pytest.skip("needs .venv-vllm: make .venv-vllm/installed", allow_module_level=True)

pytestmark = pytest.mark.vllm
TASKS = read_files()["scales"]["paper"]["ood"]["tasks"]
# of each leaf: version, few-shot examples, filters, metrics (HumanEval's is a function), whether it runs code, data set
SCRIPT = """
import json, sys
from lm_eval.tasks import TaskManager
sys.path.insert(0, "workflow_scripts")
from prerl.config.scales import read_files
from prerl.evaluation.harness import leaves
manager = TaskManager()
found = {}
for name in sys.argv[1:]:
    found[name] = []
    for leaf in leaves(manager, name):
        task = manager.task_index[leaf].cfg
        found[name].append([
            float(task["metadata"]["version"]), task["num_fewshot"], [f["name"] for f in task["filter_list"]],
            [str(m["metric"]) for m in task["metric_list"]], bool(task.get("unsafe_code")), task["dataset_path"],
        ])
print(json.dumps(found))
"""


def test_each_task_is_what_config_says():
    names = [task["task"] for task in TASKS.values()]
    done = subprocess.run([PYTHON, "-c", SCRIPT, *names], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert {name: len(leaves) for name, leaves in found.items()} == dict(zip(names, [1, 14, 27, 1], strict=True))
    for task in TASKS.values():
        for version, few_shot, filters, metrics, runs_code, data in found[task["task"]]:
            assert (version, few_shot, runs_code) == (task["version"], task["few_shot"], task["runs_code"])
            assert task["filter"] in filters
            assert task["metric"] in metrics or "pass_at_k" in metrics[0]
            assert data == task["dataset"]["repository"]
