# `make` alone lists what there is. Each target installs the environment that it needs first, from exact pins.
PYTHON ?= python3.11
CORES ?= 2
SCALE ?= miniature
VENV := .venv
# jobs find `python` and `snakemake` of the environment on their path; no thread pool beside Snakemake's own jobs
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export OMP_NUM_THREADS := 1

.PHONY: help watch reference-page test-browser quick miniature baselines smoke test test-fast test-vllm test-slurm test-all lint reference bench bench-gpu
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' Makefile | expand -t 14

quick: $(VENV)/installed  ## a first look in minutes, no verdicts: results/quick/index.html
	python workflow_scripts/show_progress.py --scale quick --cores $(CORES)

miniature: $(VENV)/installed  ## the whole paper on two CPU cores: results/miniature/index.html
	python workflow_scripts/show_progress.py --scale miniature --cores $(CORES)

watch: $(VENV)/installed  ## a local page that follows a run: make watch SCALE=quick
	python workflow_scripts/watch.py --scale $(SCALE)

baselines: $(VENV)/installed  ## the miniature's PPO, RLOO, … : results/miniature/tables/table_baselines.md
	python workflow_scripts/show_progress.py --scale miniature --cores $(CORES) --target baselines

smoke: $(VENV)/installed  ## the same DAG in minutes, its numbers mean nothing: results/smoke/index.html
	python workflow_scripts/show_progress.py --scale smoke --cores $(CORES)

# with the system's programs and those of .venv alone, so that nothing else which a machine has hides what is missing
SYSTEM := /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
test: $(VENV)/installed lint  ## lint, types, unit and workflow tests, with the smoke run
	PATH=$(CURDIR)/$(VENV)/bin:$(SYSTEM) $(VENV)/bin/python -m pytest -q -n $(CORES) --dist loadgroup \
		--no-loadscope-reorder --durations 20 -m "not vllm" tests --ignore=tests/slurm

test-fast: $(VENV)/installed  ## unit tests that are not marked slow; no Snakemake, no training job
	python -m pytest -q -n $(CORES) --dist loadgroup tests/unit -m "not slow"

test-vllm: $(VENV)/installed .venv-vllm/installed  ## the vLLM engine on the CPU; installs 2.5 GB
	.venv-vllm/bin/python -m pytest -q tests/vllm_engine
	python -m pytest -q -m vllm tests/workflow

test-browser: $(VENV)/installed .venv-browser/installed  ## the page in Debian's Chromium
	.venv-browser/bin/python -m pytest -q tests/browser

test-slurm: $(VENV)/installed .venv-slurm/installed  ## on a SLURM cluster that it starts and stops; as root, on Debian
	python -m pytest -q -o tmp_path_retention_policy=failed tests/slurm

test-all: test test-vllm test-browser test-slurm  ## all of them

lint: $(VENV)/installed  ## style, format, types
	ruff check .
	ruff format --check .
	mypy

reference-page: $(VENV)/installed  ## results/reference/miniature/index.html, from the files beside it
	python workflow_scripts/page.py --results results/reference/miniature

reference: $(VENV)/installed  ## docs/config.md and config.schema.json, from the settings classes
	cd workflow_scripts && python -m prerl.config.reference > ../docs/config.md
	cd workflow_scripts && python -m prerl.config.json_schema > ../config.schema.json

bench: export GLIBC_TUNABLES := glibc.malloc.hugetlb=1  # as the jobs have it, rules/common.smk
bench: $(VENV)/installed .venv-trl/installed .venv-vllm/installed  ## docs/benchmarks.md: results/bench/*.md
	python tests/benchmarks/training.py
	.venv-trl/bin/python tests/benchmarks/grpo.py
	python tests/benchmarks/sampling.py
	python tests/benchmarks/two_jobs.py
	python tests/benchmarks/memory.py
	python tests/benchmarks/redraw.py
	python tests/benchmarks/grading.py
	python tests/benchmarks/interval_coverage.py

bench-gpu: .venv-gpu/installed  ## on a machine with a GPU: results/bench/gpu.md
	.venv-gpu/bin/python tests/benchmarks/gpu.py

# Everything in one environment, for one GPU without conda: the jobs' own versions over the driver's. Without the SLURM
# plugin, which wants a newer numpy, and with the driver's packaging, which Snakemake wants older.
.venv-gpu/installed: envs/train.yaml envs/ood.yaml requirements.txt
	$(PYTHON) -m venv --clear .venv-gpu
	grep -v snakemake-executor-plugin-slurm requirements.txt > .venv-gpu/driver.txt
	sed -n 's/^ *- \([^ ]*==[^ ]*\).*/\1/p' envs/train.yaml envs/ood.yaml | grep -v ^packaging== | sort -u > .venv-gpu/jobs.txt
	.venv-gpu/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement .venv-gpu/driver.txt
	.venv-gpu/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement .venv-gpu/jobs.txt
	.venv-gpu/bin/pip check
	touch $@

.venv-%/installed: tests/requirements-%.txt requirements.txt
	$(PYTHON) -m venv --clear .venv-$*
	.venv-$*/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

$(VENV)/installed: requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or name it, make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(VENV)/bin/pip check
	touch $@
