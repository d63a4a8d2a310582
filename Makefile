# Every target does its own set-up in .venv; a second run finds the stamps and is quick.
#   make demo    the whole way on the shipped bag, without ROS 2 installed and without torch; BUNDLE=... another model
#   make test    all tests, and the quick ones of the robot side on Python 3.10 and 3.12 where they exist
#   make lint    ruff, mypy, import walls
#   make bench   speed figures of this machine
#   make hostile 2,000 malformed messages to the real node, a few minutes
#   make long    ten minutes of images at 30 Hz to the real node: memory, books, services, age of the poses
#   make grasp   a gripper in simulation picks the demo object by the node's poses: 200 trials, most of an hour
#   make test-tensorrt   our TensorRT calls against the real packages (900 MB; no GPU needed)
#   make clean   remove what these targets made
# PYTHON=/path/to/python3.11 chooses the interpreter, PYTEST_ARGS="-k word" narrows the tests.
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

find_python = $(firstword $(foreach p,$(1),$(shell $(p) -c 'import sys; print(sys.executable)' 2>/dev/null)))
pyenv = $(wildcard $(HOME)/.pyenv/versions/$(1).*/bin/python)
ifeq ($(PYTHON),)
PYTHON := $(call find_python,python3.11 $(call pyenv,3.11) python3.12 python3.10 python3)
endif
PYTHON310 := $(call find_python,python3.10 $(call pyenv,3.10))
PYTHON312 := $(call find_python,python3.12 $(call pyenv,3.12))

VENV := .venv
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check install --quiet
PACKAGING := setup.py setup.cfg test/interfaces/requirements.txt
INTERFACES := $(wildcard test/interfaces/*.py test/interfaces/*.cmake test/interfaces/*/*)
# The CPU build of torch. On a machine where pip offers only the CUDA build, see docs/dependencies.md.
TORCH ?= torch==2.13.0
# The oldest versions the robot side meets: Ubuntu 22.04 (Humble).
HUMBLE := numpy==1.21.6 opencv-python-headless==4.5.5.64 transforms3d==0.3.1
ROBOT_TESTS := $(wildcard $(addprefix test/,geometry inference evaluation benchmark cli contract ros test_*.py data/test_bop*.py data/test_cli_*.py))
# Two at a time: many tests wait for processes that talk over DDS. WORKERS=0: one after the other.
WORKERS ?= 2
PYTEST := -m pytest -n $(WORKERS) --dist loadgroup
PYTEST_ARGS ?=

# Wheels of ROS 2 exist for x86-64 only; elsewhere a sourced ROS 2 has to be there.
MACHINE := $(shell uname -m)
ROS_WHEELS := $(if $(filter x86_64,$(MACHINE)),-r test/interfaces/requirements.txt)

# Nothing that runs here may reach a robot's network.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
export ROS_LOCALHOST_ONLY := 1

# $(call apt_install,packages): as root where apt exists, else one line that says what to install.
define apt_install
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  echo "apt: installing $(1)"; \
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends $(1); } >/dev/null \
    || { echo "kd6d_ros: apt could not install $(1)" >&2; exit 1; }; \
else echo "kd6d_ros: system packages are missing, install them first: sudo apt-get install $(1)" >&2; exit 1; fi
endef
HEADERS := import sysconfig; print(sysconfig.get_path("include") + "/Python.h")
MESA := libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri
RENDERS := import moderngl; moderngl.create_context(standalone=True, backend="egl")

.PHONY: demo test test-main other-pythons test-python310 test-python312 test-tensorrt lint bench hostile long grasp clean
ifndef TWO_PYTHONS
.NOTPARALLEL:
endif

demo: $(VENV)/.demo
	$(BIN)/kd6d demo $(if $(BUNDLE),--bundle '$(BUNDLE)')

# Tests on the older and the newer Python wait for DDS most of the time: side by side, each with what it says in one piece.
test: $(VENV)/.dev
	@$(MAKE) other-pythons
	@status=0; \
	$(MAKE) TWO_PYTHONS=1 -j2 --output-sync=target --keep-going test-python310 test-python312 || status=1; \
	$(MAKE) test-main || status=1; \
	exit $$status

test-main: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python test/bench/run_bench.py
	$(BIN)/python test/bench/distillation_bench.py
	$(BIN)/python test/bench/dense_distillation_bench.py
	$(BIN)/python test/bench/engine_bench.py
	$(BIN)/python test/bench/peer_bench.py

hostile: $(VENV)/.demo
	$(BIN)/python test/bench/hostile_run.py --messages 2000

long: $(VENV)/.demo
	$(BIN)/python test/bench/long_run.py --minutes 10 --rate 30

grasp: $(VENV)/.dev
	$(BIN)/python test/grasping/run_grasping.py --trials 200 --seed 61 --out runs/grasping

clean:
	rm -rf .venv .venv310 .venv312 .venv-tensorrt build install log .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find kd6d_ros launch test -name __pycache__ -prune -exec rm -rf {} +

# --- set-up -------------------------------------------------------------------------------------------------

$(VENV)/.made:
	@test "$(MACHINE)" = x86_64 || $(PYTHON) -c 'import rclpy' 2>/dev/null \
	  || { echo "kd6d_ros: this machine is $(MACHINE) and has no ROS 2, whose wheels exist for x86-64 only: install ROS 2 Humble or Jazzy and source its setup.bash" >&2; exit 1; }
	@test -n "$(PYTHON)" || { echo "kd6d_ros: no Python 3.10 to 3.12 found: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	  || { echo "kd6d_ros: $(PYTHON) is not Python 3.10 to 3.12; choose one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { $(call apt_install,$(notdir $(PYTHON))-venv); }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.made $(PACKAGING) $(INTERFACES)
	@{ command -v g++ && command -v cmake && test -f "$$($(BIN)/python -c '$(HEADERS)')"; } >/dev/null \
	  || { $(call apt_install,g++ cmake ninja-build $(notdir $(PYTHON))-dev); }
	$(BIN)/python $(PIP) -e '.[bench]' $(ROS_WHEELS)
	$(BIN)/python test/interfaces/build.py
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python $(PIP) '$(TORCH)'
	$(BIN)/python $(PIP) -e '.[train,synth,bench,dev]'
	$(BIN)/python -c 'from kd6d_ros.inference.inner_loops import best_loops; print("loops:", best_loops().description)'
	@$(BIN)/python -c '$(RENDERS)' 2>/dev/null || { $(call apt_install,$(MESA)); }
	@touch $@

# --- the robot side on the Pythons of Humble and Jazzy ------------------------------------------------------
# The older one with the oldest packages runs all that is quick, the newer one what meets ROS.

other-pythons: $(if $(PYTHON310),.venv310/.made) $(if $(PYTHON312),.venv312/.made)

test-python310:
ifeq ($(PYTHON310),)
	@echo "skipped: robot-side tests on Python 3.10 (no python3.10 on PATH)"
else
	@$(MAKE) .venv310/.made
	.venv310/bin/python $(PYTEST) -m 'not gpu and not render and not slow' $(PYTEST_ARGS) $(ROBOT_TESTS)
endif

test-python312:
ifeq ($(PYTHON312),)
	@echo "skipped: robot-side tests on Python 3.12 (no python3.12 on PATH)"
else
	@$(MAKE) .venv312/.made
	.venv312/bin/python $(PYTEST) -m 'not gpu and not render and not slow' $(PYTEST_ARGS) test/cli test/contract test/ros
endif

.venv310/.made: $(PACKAGING) $(INTERFACES)
	$(PYTHON310) -m venv .venv310
	.venv310/bin/python $(PIP) $(HUMBLE) -e '.[test]' -r test/interfaces/requirements.txt
	.venv310/bin/python test/interfaces/build.py
	@touch $@

.venv312/.made: $(PACKAGING) $(INTERFACES)
	$(PYTHON312) -m venv .venv312
	.venv312/bin/python $(PIP) -e '.[test]' -r test/interfaces/requirements.txt
	.venv312/bin/python test/interfaces/build.py
	@touch $@

# --- names and calls of TensorRT, in the packages themselves ------------------------------------------------------
# 8.6.0 installs whole. Of 10 and 11 pip has the Python bindings; their libraries are replaced by an empty one.

BINDINGS := 10.3.0 10.13.3.9 10.16.1.11 11.4.0.106
NAMES_NEED := 'numpy<2' 'opencv-python-headless<4.11' PyYAML pytest pytest-timeout hypothesis
TENSORRT_TEST := -m pytest -q -p no:cacheprovider test/inference/test_tensorrt_names.py $(PYTEST_ARGS)

test-tensorrt:
ifeq ($(PYTHON310),)
	@echo "kd6d_ros: test-tensorrt needs python3.10: TensorRT 8.6.0 has wheels for no other" >&2; exit 1
else
	@$(MAKE) .venv-tensorrt/.made
	.venv-tensorrt/bin/python $(TENSORRT_TEST)
	@for version in $(BINDINGS); do \
	  folder=$$PWD/.venv-tensorrt/bindings/$$version; \
	  LD_LIBRARY_PATH=$$folder PYTHONPATH=$$folder .venv-tensorrt/cuda13/bin/python $(TENSORRT_TEST) || exit 1; \
	done
endif

.venv-tensorrt/.made: Makefile test/inference/empty_tensorrt.c
	$(PYTHON310) -m venv .venv-tensorrt
	.venv-tensorrt/bin/python $(PIP) tensorrt==8.6.0 nvidia-cudnn-cu12==8.9.7.29 cuda-python==12.6.0 $(NAMES_NEED)
	$(PYTHON310) -m venv .venv-tensorrt/cuda13
	.venv-tensorrt/cuda13/bin/python $(PIP) cuda-bindings==13.0.3 $(NAMES_NEED)
	@for version in $(BINDINGS); do \
	  folder=.venv-tensorrt/bindings/$$version; rm -rf $$folder; mkdir -p $$folder; \
	  .venv-tensorrt/bin/python $(PIP) --no-deps --target $$folder tensorrt-cu12-bindings==$$version || exit 1; \
	  for library in nvinfer nvinfer_plugin nvonnxparser; do \
	    name=lib$$library.so.$${version%%.*}; \
	    cc -shared -fPIC -Wl,-soname,$$name -o $$folder/$$name test/inference/empty_tensorrt.c || exit 1; \
	  done; \
	  ln -sfn tensorrt_bindings $$folder/tensorrt; \
	done
	@touch $@
