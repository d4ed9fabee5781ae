# `make speak` and `make test` set everything up.
PYTHON ?= python3
VENV ?= .venv
REFERENCE_VENV ?= .venv-reference
MLX_AUDIO_VENV ?= .venv-mlx-audio
TEXT ?= Oh, that is hilarious! [chuckle] Um anyway, we do have a new model in store.
CLIP ?= tests/data/1069-133699-0000.flac
OUT ?= speech.wav

# The MLX back end: Metal on a Mac, CUDA by the driver's major version, otherwise the CPU.
ifeq ($(shell uname -s),Darwin)
BACKEND ?=
else
CUDA := $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: \([0-9]*\).*/\1/p')
BACKEND ?= $(if $(CUDA),$(if $(filter 12,$(CUDA)),cuda12,cuda13),cpu)
endif
EXTRAS = $(if $(BACKEND),$(BACKEND),)

.PHONY: speak listen test test-gpu-path versions check doctor stress parity streaming original goldens docs reliability benchmark benchmark-peers listeners load clean

# MODEL is a folder, a Hub id, or a name. Without it: the official model if the Hub answers, in the
# voice of CLIP; otherwise the small demo model, in its own voice. The text goes through the
# environment, so that neither make nor the shell interprets quotes and dollars in it.
speak: export SPOKEN = $(value TEXT)
speak: $(VENV)/.installed
	@model="$(MODEL)"; \
	if [ -z "$$model" ]; then \
	  if $(VENV)/bin/python -c "import urllib.request as u; u.urlopen('https://huggingface.co', timeout=5)" 2>/dev/null; \
	  then model=ResembleAI/chatterbox-turbo; \
	  else model=demo; echo "The Hub does not answer: speaking with the small model 'demo'."; fi; \
	fi; \
	if [ "$$model" = demo ]; then set --; else set -- --ref_audio "$(CLIP)"; fi; \
	$(VENV)/bin/mlx_audio_turbo.tts --model "$$model" "$$@" --text "$$SPOKEN" --output "$(OUT)"

# Word error rates of the demo model, by a speech recogniser.
listen: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pip install --quiet moonshine-voice==0.1.0
	$(VENV)/bin/python -m tests.measure.listen $(LISTEN_OPTIONS)

# Two processes, a file of tests in each.
test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -q -n 2 --dist loadfile

# Whether the numbers are right on this machine, and how fast.
doctor: $(VENV)/.installed
	$(VENV)/bin/mlx_audio_turbo.doctor $(if $(MODEL),--model "$(MODEL)")

# The code path of each GPU back end, on the CPU.
test-gpu-path: $(VENV)/.installed-dev
	for path in metal cuda; do MLX_AUDIO_TURBO_FORCE_GPU_PATH=$$path $(VENV)/bin/python -m pytest -q -n 2 \
	  tests/test_gpu_path.py tests/test_gpu_ledgers.py tests/test_s3gen.py tests/test_hift.py \
	  tests/test_t3.py tests/test_ops.py tests/test_engine.py tests/test_every_tensor.py \
	  tests/test_sampling.py tests/test_decoding.py tests/test_benchmark.py || exit 1; done

# The least MLX that is allowed and the newest, in environments of their own (.venv-mlx-…): exit
# codes and quick tests five times, all tests once. VERSIONS="floor --tests quick" is one of them.
versions: $(VENV)/.installed-dev
	$(VENV)/bin/python -m tests.measure.versions $(VERSIONS)

check: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

# Kills at random moments and mutated files: minutes each.
stress: $(VENV)/.installed-dev
	$(VENV)/bin/python -m tests.measure.stress.kills --count 200
	$(VENV)/bin/python -m tests.measure.stress.headers --count 100000
	$(VENV)/bin/python -m pytest -q -m slow

# Listeners who leave, read slowly or send what is wrong; writes a table of docs/server.md.
listeners: $(VENV)/.installed-dev
	$(VENV)/bin/python -m tests.measure.robustness.listeners

# Many listeners at once: speed and waiting; writes tables of docs/server.md.
load: $(VENV)/.installed-dev
	$(VENV)/bin/python -m tests.measure.load $(if $(MODEL),--model "$(MODEL)")

# Streamed against whole, on random weights of the published sizes.
streaming: $(VENV)/.installed-dev
	$(VENV)/bin/python -m tests.measure.streaming

# Streams, batches, seeds, fewer bits and voice conversion of the original at its published size.
original: $(VENV)/.installed-dev
	$(VENV)/bin/python -m tests.measure.original $(ORIGINAL_OPTIONS)

parity: $(VENV)/.installed-dev $(REFERENCE_VENV)/.installed
	$(VENV)/bin/python -m tests.measure.parity --reference $(REFERENCE_VENV)/bin/python

goldens: $(VENV)/.installed-dev $(REFERENCE_VENV)/.installed
	$(VENV)/bin/python -m tests.measure.parity --reference $(REFERENCE_VENV)/bin/python --goldens

# The generated parts of the docs.
docs: $(VENV)/.installed-dev
	$(VENV)/bin/python -m tests.docs_tree
	$(VENV)/bin/python -m tests.api_page
	$(VENV)/bin/python -m tests.measure.expected
	$(VENV)/bin/python -m mlx_audio_turbo.cli.docs > docs/cli.md.new && mv docs/cli.md.new docs/cli.md

# Bad inputs of every kind and 500 generations; writes the tables of docs/reliability.md.
reliability: $(VENV)/.installed-dev
	$(VENV)/bin/python -m tests.measure.reliability

# Every stage's time; AGAINST="reference mlx-audio" puts other implementations beside ours.
AGAINST ?=
benchmark: export REFERENCE_PYTHON = $(abspath $(REFERENCE_VENV))/bin/python
benchmark: export MLX_AUDIO_PYTHON = $(abspath $(MLX_AUDIO_VENV))/bin/python
benchmark: $(VENV)/.installed$(if $(AGAINST),-dev) $(if $(findstring reference,$(AGAINST)),$(REFERENCE_VENV)/.installed) \
  $(if $(findstring mlx-audio,$(AGAINST)),$(MLX_AUDIO_VENV)/.installed)
ifeq ($(AGAINST),)
	$(VENV)/bin/mlx_audio_turbo.benchmark --model "$(or $(MODEL),tiny)"
else
	$(VENV)/bin/python -m tests.measure.peers.against $(AGAINST) $(if $(MODEL),--model "$(MODEL)")
endif

# Every figure of speed, beside other implementations; rewrites docs/performance.md.
benchmark-peers: export REFERENCE_PYTHON = $(abspath $(REFERENCE_VENV))/bin/python
benchmark-peers: export MLX_AUDIO_PYTHON = $(abspath $(MLX_AUDIO_VENV))/bin/python
benchmark-peers: $(VENV)/.installed-dev $(REFERENCE_VENV)/.installed $(MLX_AUDIO_VENV)/.installed
	$(VENV)/bin/python -m tests.measure.peers $(PEERS_OPTIONS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable ".$(if $(EXTRAS),[$(EXTRAS)],)"
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable ".[$(if $(EXTRAS),$(EXTRAS)$(comma),)dev]"
	@touch $@ $(VENV)/.installed

comma := ,

# The PyTorch reference pins versions that clash with ours, so it lives apart. The wheel of
# torchaudio needs CUDA; its Python parts (resampling, filter banks) run without its libraries.
$(REFERENCE_VENV)/.installed:
	$(PYTHON) -m venv $(REFERENCE_VENV)
	$(REFERENCE_VENV)/bin/python -m pip install --quiet torch==2.13.0
	$(REFERENCE_VENV)/bin/python -m pip install --quiet --no-deps \
	  chatterbox-tts==0.1.7 s3tokenizer==0.3.0 torchaudio==2.11.0 resemble-perth
	$(REFERENCE_VENV)/bin/python -m pip install --quiet transformers diffusers librosa soundfile \
	  safetensors einops omegaconf conformer onnx pyloudnorm scipy spacy-pkuseg pykakasi setuptools
	rm -f $(REFERENCE_VENV)/lib/python3*/site-packages/torchaudio/lib/*.so
	@touch $@

# mlx-audio pins an MLX of its own.
$(MLX_AUDIO_VENV)/.installed:
	$(PYTHON) -m venv $(MLX_AUDIO_VENV)
	$(MLX_AUDIO_VENV)/bin/python -m pip install --quiet $(if $(EXTRAS),"mlx[$(EXTRAS)]") mlx-audio==0.6.2
	@touch $@

clean:
	rm -rf $(VENV) .venv-mlx-* $(REFERENCE_VENV) $(MLX_AUDIO_VENV) .parity build *.egg-info
