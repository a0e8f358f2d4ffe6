# `make run` and `make test` do all set-up on a fresh machine; a second call does not reinstall.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt $(shell find workers/native -name "*.[ch]pp")
STAMP := $(VENV)/.installed
PACKAGES := conf loadgen results tests tools workers
# What no process imports need not be compiled: it is two thirds of what is installed.
NEVER_IMPORTED := site-packages/(.*/tests/|ray/(data|llm|rllib|train|tune)/|pip/|setuptools/|pkg_resources/|$\
cfnlint/|graphql/|mpmath/|mypyc?/|networkx/|sympy/|$\
moto/(?!(core|utilities|moto_api|moto_server|s3|s3bucket_path|cloudwatch|events)/)[a-z0-9_]+/)

.PHONY: run test bench soak machines lint sanitize clean

run: $(STAMP)
	$(BIN)/loadgen experiment=default

# Ray sleeps while it starts and ends: three at a time keep two CPUs busy.
test: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

bench: $(STAMP)
	$(BIN)/python -m tests.bench.bench

soak: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[soak]'
	$(BIN)/python -m pytest tests/soak -m soak --timeout 3600

# Other kernels, arm64, hardware-style KVM and NUMA nodes, emulated. What it downloads stays in build/machines.
machines: $(STAMP)
	$(BIN)/python -m tests.machines

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files '*.cpp' '*.hpp' | xargs $(BIN)/clang-format --dry-run -Werror
	$(BIN)/python -m pytest tests/test_rooms.py tests/test_sizes.py tests/test_words.py

# The native tests, once under each sanitizer; `make -j2` has them side by side.
sanitize: sanitize-address,undefined sanitize-thread

sanitize-%: $(STAMP)
	$(BIN)/python tests/native/run_native.py $*

$(STAMP): $(SOURCES)
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or call make PYTHON=..."; exit 1; }
	@command -v g++ >/dev/null || { echo "g++ not found: apt-get install g++"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[test]'
	$(BIN)/python -m compileall -q -q -j 0 -x '$(NEVER_IMPORTED)' $(VENV)/lib $(PACKAGES) || true  # pip would do it on one CPU
	touch $@

clean:
	rm -rf $(VENV) build
