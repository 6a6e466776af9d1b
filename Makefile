# Every target makes what it needs: on a new machine, `make demo` is enough.
PYTHON ?= python3
IMAGE_DIR ?= tf_files/sample_photos
ARCHITECTURE ?= efficientnet_lite0
LEARNING_RATE ?= 0.01
STEPS ?= 4000
DATA ?= ../shared/data
BIN = .venv/bin
RETRAIN = $(BIN)/retrain --image_dir="$(IMAGE_DIR)" --architecture="$(ARCHITECTURE)" \
	--learning_rate="$(LEARNING_RATE)" --how_many_training_steps="$(STEPS)" \
	--summaries_dir="tf_files/training_summaries/$(notdir $(ARCHITECTURE))_LR_$(LEARNING_RATE)"

# What retrain says to type next is then a target of this file.
demo train train-cpu train-gpu: export RETRAIN_CALLED_BY = make

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick lint train train-cpu train-gpu tensorboard label flowers benchmark clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: .venv/installed ## make .venv and install retrain into it

demo: .venv/installed tf_files/sample_photos/.drawn ## draw sample photos, train on them, label a new one
	$(BIN)/retrain --image_dir=tf_files/sample_photos --how_many_training_steps=500
	@$(BIN)/python scripts/make_sample_photos.py --image_dir=tf_files/new_photos --per_class=1 --seed=1
	$(BIN)/label_image tf_files/new_photos/sunflowers/sunflowers_000.jpg
	@echo
	@echo "That was the demo. What to type next:"
	@echo "  your own photos   make train IMAGE_DIR=path/to/photos     (one folder for each class)"
	@echo "  the curves        make tensorboard                        (then open http://localhost:6006)"
	@echo "  label a photo     make label IMAGE=photo.jpg"
	@echo "  how good it is    open tf_files/retrained_graph.report.html in a browser"

test: .venv/installed-dev lint ## run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile

quick: .venv/installed-dev ## run the quick tests
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

lint: .venv/installed-dev ## check style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

train: .venv/installed ## train: IMAGE_DIR= ARCHITECTURE= LEARNING_RATE= STEPS=
	$(RETRAIN)

train-cpu: .venv/installed ## train with the GPUs hidden
	CUDA_VISIBLE_DEVICES=-1 $(RETRAIN)

train-gpu: gpu .venv/installed-gpu ## train on a GPU, or say in a line why not
	@TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -c 'import tensorflow as tf, sys; sys.exit(not tf.config.list_physical_devices("GPU"))' 2>/dev/null \
		|| { echo "make train-gpu: TensorFlow sees no GPU. Check that nvidia-smi lists one, or use make train-cpu." >&2; exit 1; }
	$(RETRAIN)

tensorboard: .venv/installed ## show the curves at http://localhost:6006
	$(BIN)/retrain tensorboard --logdir=tf_files/training_summaries

label: .venv/installed ## label photos: IMAGE=
	@test -n "$(IMAGE)" || { echo "make label: name a photo or a folder, as in make label IMAGE=photo.jpg" >&2; exit 2; }
	$(BIN)/label_image "$(IMAGE)"

flowers: tf_files/flower_photos ## download the codelab's flower_photos (229 MB) into tf_files/

benchmark: .venv/installed-dev ## measure speeds beside the original's: DATA=folder of photos and archives
	$(BIN)/python -m scripts.benchmark --data="$(DATA)"

# Only what retrain wrote goes, known by its name and, where others use that name too, by its metadata.
clean: ## remove the virtual environment and the results under tf_files/; photos and all else stay
	@test ! -e .venv/python || rm -rf .venv
	@test ! -d tf_files || (cd tf_files && $(clean_results))

define clean_results
if grep -qs '<meta name="generator" content="retrain">' check_images.html; then rm -f check_images.html check_images.json check_images.marks.jsonl; fi; \
if grep -qs retrain_metadata retrained_graph.pb; then rm -f retrained_graph.pb retrained_labels.txt; fi; \
for file in retrained_graph.tflite retrained_graph_fp16.tflite retrained_graph_int8.tflite retrained_graph.onnx \
	intermediate_graphs/intermediate_[0-9]*.pb; do if grep -qsi retrain_metadata "$$file"; then rm -f "$$file"; fi; done; \
if grep -qs retrain.json retrained_graph.keras; then rm -f retrained_graph.keras; fi; \
if grep -qsE '<title>retrain</title>|<meta name="generator" content="retrain">' retrained_graph.report.html; then rm -f retrained_graph.report.html retrained_graph.report.json; fi; \
if test -e retrained_graph_saved_model/retrain.json; then (cd retrained_graph_saved_model && \
	rm -f saved_model.pb fingerprint.pb retrain.json variables/variables.index variables/variables.data-*); fi; \
for record in runs/*/run.json; do if grep -qs '"format": "retrain run ' "$$record"; then run=$$(dirname "$$record"); \
	rm -f "$$run"/report.html "$$run"/report.json "$$run"/predictions.csv "$$record"; \
	find "$$run" -type f -name "events.out.tfevents.*.retrain" -exec rm -f {} +; fi; done; \
find training_summaries -type f -name "events.out.tfevents.*.retrain" -exec rm -f {} + 2>/dev/null; \
if grep -qs "^# Written by retrain" training_summaries/projector_config.pbtxt; then (cd training_summaries && \
	rm -f projector_config.pbtxt && cd projector.retrain && rm -f bottlenecks.bytes metadata.tsv sprite.jpg pictures.sqlite pictures.npz key); fi; \
if grep -qs "^model_checkpoint_path: .head." checkpoints/checkpoint; then \
	rm -f checkpoints/checkpoint checkpoints/head.index checkpoints/head.data-*; fi; \
if test -e checkpoints/head.npz; then rm -f checkpoints/head.npz checkpoints/head.fine_tuning*.npz; fi; \
find bottlenecks -type f \( -name index.sqlite -o -name backbone.json.sha256 \) -execdir rm -rf vectors.f32 checksums.u32 \
	index.sqlite index.sqlite-wal index.sqlite-shm report.sqlite report.sqlite-journal report.sqlite-wal report.sqlite-shm \
	pictures.sqlite pictures.sqlite-journal places.sqlite places.sqlite-journal properties.1 \
	in_use.lock engines.json engines.json.sha256 backbone.verified backbone.stripped \
	backbone.json backbone.json.sha256 backbone.pb backbone.pb.sha256 backbone.tflite backbone.tflite.sha256 \
	backbone_int8.tflite backbone_int8.tflite.sha256 \; 2>/dev/null; \
find bottlenecks checkpoints intermediate_graphs retrained_graph_saved_model runs training_summaries \
	-depth -type d -empty -exec rmdir {} \; 2>/dev/null; true
endef

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: Python 3.11 or newer is needed, and $(PYTHON) is older or missing. Name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

# The distribution was called retrain before it was called retrain-images; side by side they share their files.
define install
	@$(BIN)/python -m pip uninstall --quiet --yes --disable-pip-version-check retrain 2>/dev/null
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '$(1)'
	@touch $@
endef

.venv/installed: .venv/python pyproject.toml
	$(call install,.)

.venv/installed-dev: .venv/python pyproject.toml
	$(call install,.[dev])
	@touch .venv/installed

# Looks for a GPU before 4 GB are downloaded for it; some containers have the device without nvidia-smi.
.PHONY: gpu
gpu:
	@{ nvidia-smi -L || ls /dev/nvidia[0-9]*; } 2>/dev/null | grep -Eq '^GPU |^/dev/nvidia' \
		|| { echo "make train-gpu: no NVIDIA GPU here (nvidia-smi lists none), so nothing was installed. Use make train." >&2; exit 1; }

.venv/installed-gpu: .venv/python pyproject.toml | gpu
	$(call install,.[gpu])
	@touch .venv/installed

tf_files/sample_photos/.drawn: scripts/make_sample_photos.py | .venv/installed
	$(BIN)/python scripts/make_sample_photos.py --image_dir=tf_files/sample_photos
	@touch $@

tf_files/flower_photos: | .venv/installed
	$(BIN)/python -m scripts.download_flowers
