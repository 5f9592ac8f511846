# Thin: every rule calls one thing. PYTHON is the interpreter (3.11 or newer) that makes VENV; TRAIN is for the training of
# the sample model, such as TRAIN="--minutes 5".
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
CORE = --editable "./core[text]"
DIALECTS = --editable ./plugins/ollama_api --editable ./plugins/lmstudio_api --editable ./plugins/anthropic_api
ENGINES = --editable "./plugins/gguf_llamacpp[engine]" --editable ./plugins/hf_transformers --editable ./plugins/audio --editable ./plugins/onnx --editable ./plugins/diffusers --editable ./plugins/rkllm $(DIALECTS)
PLUGINS = --editable ./plugins/gguf_llamacpp --editable ./plugins/hf_transformers --editable ./plugins/audio --editable ./plugins/onnx --editable ./plugins/diffusers --editable ./plugins/rkllm $(DIALECTS)
SAMPLES = --editable ./samples
TRAINING = --editable "./samples[train]"
SPEECH = --editable "./plugins/audio[engine]"
ONNX = --editable "./plugins/onnx[engine]"
PAINTING = --editable "./plugins/diffusers[engine]"
RKLLM = --editable "./plugins/rkllm[engine]"
TESTS = --requirement tests/requirements.txt
CLIENTS = --requirement tests/requirements-clients.txt
TORCH = --editable "./plugins/hf_transformers[engine,audio,adapters,gguf]" --requirement tests/requirements-torch.txt
# Two tests at a time, so that engines must not each take all cores; what measures time runs by itself. Bytecode is
# written, as on anyone's machine: the tests start thousands of commands.
TOGETHER = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 2
ALONE = $(BIN)/python -m pytest
PROJECTS = core/pyproject.toml samples/pyproject.toml $(wildcard plugins/*/pyproject.toml) constraints.txt

.PHONY: demo test test-full test-without-engine check bench sample-model eval-sample clean

demo: $(VENV)/installed
	$(BIN)/python scripts/demo.py

test: $(VENV)/tests-installed
	$(TOGETHER) -m "not full and not alone"
	$(ALONE) -m "not full and alone"

test-full: $(VENV)/tests-installed
	$(TOGETHER) -m "not full and not alone"
	$(ALONE) -m "full or alone"

test-without-engine: $(VENV)/tests-installed-without-engine
	$(TOGETHER) -m "not full and not alone and not engine"
	$(ALONE) -m "not full and alone and not engine"

check: $(VENV)/tests-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy core/src samples/src $(wildcard plugins/*/src)
	$(BIN)/lint-imports

bench: $(VENV)/tests-installed
	$(BIN)/python benchmarks/chat.py

sample-model: $(VENV)/training-installed
	$(BIN)/python -m anyform_samples.train $(TRAIN)
	$(BIN)/python -m anyform_samples.export
	$(BIN)/python -m anyform_samples.embedding

eval-sample: $(VENV)/training-installed
	$(BIN)/python -m anyform_samples.evaluate
	$(BIN)/python -m anyform_samples.embedding.evaluate

clean:
	rm -rf .venv .venvs .bench .demo .samples

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(PROJECTS) | $(VENV)/bin/python
	@echo "installing from this clone; compiling llama.cpp takes 4 to 10 minutes the first time, then pip keeps it"
	$(INSTALL) $(CORE) $(ENGINES) $(SAMPLES) openai
	@touch $@

$(VENV)/tests-installed: $(VENV)/installed tests/requirements.txt tests/requirements-torch.txt tests/requirements-clients.txt
	$(INSTALL) $(TESTS) $(CLIENTS) $(TORCH) $(SPEECH) $(ONNX) $(PAINTING) $(RKLLM) $(TRAINING)
	@touch $@

$(VENV)/tests-installed-without-engine: $(PROJECTS) tests/requirements.txt | $(VENV)/bin/python
	$(INSTALL) $(CORE) $(PLUGINS) $(SAMPLES) $(TESTS)
	@touch $@

$(VENV)/training-installed: $(VENV)/installed
	$(INSTALL) $(TRAINING)
	@touch $@
