# Each target does its own set-up. A bare machine needs Python 3.11+, make and a C compiler; what
# has not changed since the last time is not installed again.
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(p) -c 'import sys; sys.version_info < (3, 11) or print(sys.executable)' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns at length of every editable install, also where one was asked for.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check
APT := $(shell test "$$(id -u)" = 0 || echo sudo) env DEBIAN_FRONTEND=noninteractive apt-get --quiet

# The types that we publish for compiled modules.
STUBS := $(wildcard hashring/*.pyi hashring/*/*.pyi hashring/telemetry/*/*.pyi hashring/telemetry/*/*/*.pyi)

# What the installed package is made from: an editable install needs no more than this.
CYTHON := $(wildcard hashring/*.pyx hashring/*/*.pyx hashring/telemetry/*/*.pyx \
	hashring/telemetry/*/*/*.pyx)
GENERATED := $(CYTHON:.pyx=.c)
SOURCES := pyproject.toml setup.py $(CYTHON) $(filter-out $(GENERATED), \
	$(wildcard hashring/*.px[di] hashring/*.[ch] hashring/*/*.px[di] hashring/*/*.[ch] \
	hashring/telemetry/*/*.h hashring/telemetry/*/*/*.px[di]))
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.tools

.PHONY: setup run servers test test-long coverage coverage-protocol coverage-ring coverage-partition faults check check-sources other-pythons newest-python bench bench-full clean
.NOTPARALLEL:

# Byte code is kept: each of pytest's workers lists the tests in half the processor time, and the
# processes that tests start need not compile what they import.
unexport PYTHONDONTWRITEBYTECODE

setup: $(TOOLS)

# A Debian machine may have Python without its venv module, or a C compiler without Python's headers
# (then, and without a compiler, all works on the plain-Python engine). pip 25.1 was the first to
# install dependency groups.
$(VENV)/.python:
	@test -n "$(PYTHON)" || \
		{ echo "make: Python 3.11 or newer is needed (PYTHON=/path/to/python3)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { $(APT) update && $(APT) install --yes python3-venv && \
		$(PYTHON) -m venv --clear $(VENV); }
	@test -e "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || \
		{ $(APT) update && $(APT) install --yes python3-dev; } || \
		echo "make: no Python headers, so the plain-Python engine it is" >&2
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	touch $@

# Enough to run: the package with its agents and alarms.
$(INSTALLED): $(SOURCES) | $(VENV)/.python
	$(PIP) install --quiet --editable '.[telemetry,alarms]'
	touch $@

# Enough to develop: every driver's client library and every tool as well. libvirt's own binding is
# built here, and needs its headers.
$(TOOLS): $(SOURCES) | $(VENV)/.python
	pkg-config --exists libvirt 2>/dev/null || tests/servers/install.sh libvirt-dev pkg-config
	$(PIP) install --quiet --editable '.[all,libvirt]' --group test --group check --group docs
	touch $(INSTALLED) $@

# Agents share this machine, one is killed, one joins, one is stopped; then the account. Then alarms
# fire and clear, and an evaluator is killed meanwhile.
run: $(INSTALLED)
	$(BIN)/hashring show
	$(BIN)/hashring alarm show

# The tests run on real stores; what is missing of them comes from Debian's packages.
servers:
	tests/servers/install.sh

# Ceilometer's present release, whose options and fields ours are compared with, in an environment of
# its own.
OPENSTACK := .openstack/requirements.txt
$(OPENSTACK): pyproject.toml tests/servers/openstack.py | $(TOOLS)
	$(BIN)/python -m tests.servers.openstack
	touch $@

# Several processes that each rewrite the assertions of all tests would take two minutes of two cores. One
# does it, while the environment above is made; the others find it done.
COLLECTED := $(VENV)/.collected
$(COLLECTED): $(TOOLS)
	$(BIN)/python -m pytest --collect-only --quiet >/dev/null
	touch $@

# Most tests wait for leases to end, so several run beside each other. What installs, builds, follows
# guides and plays whole processes comes after them, so that the first answer comes soon. Those that
# measure what a fault costs run last, two at a time: they have processes enough of their own.
test: $(TOOLS) servers
	$(MAKE) --no-print-directory --jobs=2 $(OPENSTACK) $(COLLECTED)
	$(BIN)/python -m pytest --numprocesses=8 --dist=loadscope --no-loadscope-reorder -m 'not slow and not faults and not long'
	$(BIN)/python -m pytest --numprocesses=4 --dist=loadscope --no-loadscope-reorder -m 'slow and not long'
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal -m 'faults and not long'

# More of what `make test` has in a short form; and each property with seven times the examples.
test-long: $(TOOLS) servers $(OPENSTACK)
	$(BIN)/python -m pytest --numprocesses=4 -m long
	$(BIN)/python -m pytest --numprocesses=2 --hypothesis-profile=deep -m 'hypothesis and not long'

# Which lines and branches the suite runs, also in the processes that tests start. What is compiled
# from Cython is not counted. make coverage TESTS=tests/test_ring.py takes less time than all.
TESTS ?= -m 'not faults and not long'
coverage: $(TOOLS) servers $(OPENSTACK)
	rm -rf .coverage
	mkdir .coverage
	$(BIN)/python -m coverage run -m pytest -p tests.covered --numprocesses=2 --dist=loadscope $(TESTS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# In the protocol each line and branch runs, or says why not: without a store, a clock or a thread.
# Anything less is an error here.
PROTOCOL_TESTS := hashring/protocol tests/protocol \
	tests/test_windows.py tests/test_view.py tests/test_record.py tests/test_claims.py
coverage-protocol: $(TOOLS)
	rm -rf .coverage
	mkdir .coverage
	$(BIN)/python -m coverage run -m pytest --quiet -m 'not long' $(PROTOCOL_TESTS)
	$(BIN)/python -m coverage run -m hashring.testing.simulation --runs 32 --seed 5 --processes 1
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --include='hashring/protocol/*' --fail-under=100

# In the ring, whose plain engine is the same as the compiled one, likewise.
RING_TESTS := hashring/ring tests/test_ring.py tests/test_ring_golden.py tests/test_ring_rare_cases.py \
	tests/test_engine.py tests/test_engine_arrays.py tests/test_engine_properties.py
coverage-ring: $(TOOLS)
	rm -rf .coverage
	mkdir .coverage
	$(BIN)/python -m coverage run -m pytest --quiet -m 'not long' $(RING_TESTS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --include='hashring/ring/*' --fail-under=100

# In the partition likewise, on the embedded stores alone; also in the processes that tests start.
PARTITION_TESTS := hashring/partition tests/partition tests/test_partition_facts.py tests/test_fanout.py \
	tests/test_waiting.py tests/test_resume.py tests/test_steer.py tests/test_driver_changes.py
coverage-partition: $(TOOLS)
	rm -rf .coverage
	mkdir .coverage
	$(BIN)/python -m coverage run -m pytest -p tests.covered --quiet --numprocesses=4 --dist=worksteal \
		-m 'not long' --deselect tests/partition/test_endings.py::test_a_failed_join_leaves_redis_without_a_member_or_a_connection \
		$(PARTITION_TESTS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --include='hashring/partition/*' --fail-under=100

# Random faults, for ten minutes on the embedded store: make faults STORE=redis SECONDS=60 SEED=1
STORE ?= sqlite
SECONDS ?= 600
faults: $(TOOLS) servers
	$(BIN)/python -m tests.faults --store $(STORE) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# The tests on another Python mostly wait: what reads the sources goes on beside them.
check: $(TOOLS)
	$(MAKE) --no-print-directory --jobs=2 check-sources newest-python

check-sources: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --concise --ignore-positional-only --ignore-disjoint-bases \
		--ignore-unused-allowlist --allowlist tests/stubtest.allowlist $(subst /,.,$(STUBS:.pyi=))
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

# The core's and some drivers' tests on every other Python that is here, nothing where none is; or on
# the newest alone.
newest-python: $(TOOLS)
	tests/servers/install.sh redis-server
	tests/other_pythons.sh $$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') newest

other-pythons: $(TOOLS)
	tests/servers/install.sh redis-server
	tests/other_pythons.sh $$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# The peers, and a floor in C. Two peers go into a folder of their own: one has our import name, and
# one does not import on Python 3, which the report then says.
BENCHES := .benchmarks
$(BENCHES)/.ready: pyproject.toml bench/_floors.pyx | $(TOOLS)
	$(PIP) install --quiet --group bench
	$(PIP) install --quiet --upgrade --no-deps --target $(BENCHES)/peers 'hashring==1.5.1' 'hash_ring==1.3.1'
	$(BIN)/cythonize --inplace --quiet bench/_floors.pyx
	touch $@

BENCH = $(BIN)/python -m pytest --quiet --benchmark-disable-gc --benchmark-quiet \
	--benchmark-timer=time.process_time \
	$(wildcard bench/test_*.py)

# Us beside every peer on the same input. The short form takes two minutes, the full one four.
bench: $(BENCHES)/.ready
	BENCH_COMMAND='make $@' $(BENCH) --benchmark-json=$(BENCHES)/short.json
	$(BIN)/python -m bench.report $(BENCHES)/short.json

bench-full: $(BENCHES)/.ready
	BENCH_COMMAND='make $@' $(BENCH) --full --benchmark-json=$(BENCHES)/full.json
	$(BIN)/python -m bench.report $(BENCHES)/full.json --docs

clean:
	rm -rf $(VENV) .venv-py* $(BENCHES) .coverage .openstack build dist docs/_build *.egg-info
	rm -f $(GENERATED) bench/_floors.c $(wildcard bench/*.so hashring/*.so hashring/*/*.so)
	find bench docs drivers examples hashring tests -name __pycache__ -prune -exec rm -rf {} +
