# Needs python3 (3.11 or newer) and make. tools/bootstrap.sh installs everything else into .venv.

.DEFAULT_GOAL := help
# Python keeps what it has compiled, also where the environment forbids it: each process of a test would compile again.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help run docs test test-fast test-flaky conformance soak kills check bench faults eval

help:
	@echo "make run           start the gateway with tentaculo.toml, or the demonstration if there is no such file"
	@echo "make test          run every test but those of make conformance, the fast ones first"
	@echo "make test-fast     run the fast tests in two minutes, and list the groups that are left out"
	@echo "make test-flaky    repeat the tests of what you changed 20 times; N=50 repeats them 50 times"
	@echo "make conformance   run the HTTP and WebSocket suites of other projects, in a few minutes; SEARCH=4 searches for faults four times as long"
	@echo "make soak          send a million mixed requests and check that memory is flat, in about ten minutes; REQUESTS=200000 takes two"
	@echo "make kills         kill -9 workers, machines and PostgreSQL under load, twenty times each, in about ten minutes; ROUNDS=3 takes one"
	@echo "make check         lint, format, types"
	@echo "make docs          write the files that are made of the configuration keys: the example, the schema, two tables"
	@echo "make bench         compare with other proxies on this machine, in an hour; CASES=quick PEERS=ours,nginx takes less"
	@echo "make faults        break endpoints behind this gateway, HAProxy and nginx, in half an hour; ARGS=--quick takes two"
	@echo "make eval          simulate what early warnings catch and model rotation learns, in half an hour; NAB=folder adds series, LOG=file a log, RUNS=10 takes less"
	@echo
	@echo 'ARGS passes arguments on: make run ARGS="--port 8080", make test ARGS="tests/proxy -x"'

run:
	@tools/bootstrap.sh run
	@exec .venv/bin/python -m tentaculo serve $(ARGS)

PYTEST = .venv/bin/python -m pytest
# Tests wait for much of their time, so they use more processes than a small machine has cores; but those that measure
# time and memory have the machine to themselves. Without reordering, files run in the order of their groups: by default those
# of few tests run last, and many of them take a minute.
FAST = $(PYTEST) --fast -n 4 --dist worksteal --ignore=tests/conformance
SLOW = $(PYTEST) --slow --durations=20 --ignore=tests/conformance
ALONE = soak

test:
	@tools/bootstrap.sh dev
	@tools/bootstrap.sh system
ifdef ARGS
	@$(PYTEST) --ignore=tests/conformance $(ARGS)
else
	@$(FAST); fast=$$?; $(SLOW) -n 3 --dist loadfile --no-loadscope-reorder -m "not $(ALONE)"; slow=$$?; $(SLOW) -m "$(ALONE)"; alone=$$?; \
		[ $$fast -eq 0 ] || echo "The fast tests failed, see above." >&2; \
		[ $$slow -eq 0 ] || echo "The slow tests failed, see above." >&2; \
		exit $$((fast != 0 || slow != 0 || alone != 0))
endif

test-fast:
	@tools/bootstrap.sh dev
	@$(FAST) $(ARGS)

test-flaky:
	@tools/bootstrap.sh dev
	@.venv/bin/python -m tests.support.repeat $(if $(N),-n $(N)) $(ARGS)

conformance:
	@tools/bootstrap.sh dev
	@tools/bootstrap.sh conformance
	@$(PYTEST) tests/conformance -n 2 --dist loadfile $(ARGS)

soak:
	@tools/bootstrap.sh dev
	@.venv/bin/python -m tests.soak $(if $(REQUESTS),--requests $(REQUESTS)) $(ARGS)

kills:
	@tools/bootstrap.sh dev
	@tools/bootstrap.sh system
	@.venv/bin/python -m tests.kills $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

docs:
	@tools/bootstrap.sh run
	@.venv/bin/python -m tools.render_docs

check:
	@tools/bootstrap.sh dev
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy

# Also: CASES=get,post PEERS=ours,nginx ROUNDS=3 SECONDS=3. BASELINE=../old adds the peer "baseline", another checkout.
bench:
	@tools/bootstrap.sh run
	@tools/bootstrap.sh bench
	@$(if $(BASELINE),BENCH_BASELINE=$(BASELINE)) .venv-bench/bin/python -m bench $(if $(CASES),--cases $(CASES)) $(if $(PEERS),--peers $(PEERS)) \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

faults:
	@tools/bootstrap.sh run
	@tools/bootstrap.sh faults
	@.venv/bin/python -m bench.faults $(ARGS)

eval:
	@tools/bootstrap.sh run
	@.venv/bin/python -m bench.early_warning $(if $(NAB),--nab $(NAB)) $(ARGS)
	@.venv/bin/python -m bench.model_rotation $(if $(LOG),--log $(LOG)) $(if $(RUNS),--runs $(RUNS))
