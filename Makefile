# Needs python3 (3.11 or newer) and make, nothing else; tools/bootstrap.sh does the installing, into .venv.

.DEFAULT_GOAL := help
.PHONY: help run test conformance soak check bench faults

help:
	@echo "make run           start the gateway: with tentaculo.toml where there is one, else the demonstration"
	@echo "make test          run every test but those of make conformance"
	@echo "make conformance   hold it to the suites by which others judge HTTP and WebSocket, in a few minutes"
	@echo "make soak          send a million mixed requests and see that memory is flat, in ten minutes or so; REQUESTS=50000 takes less"
	@echo "make check         lint, format, types"
	@echo "make bench         compare with other proxies on this machine, in an hour; CASES=quick PEERS=ours,nginx takes less"
	@echo "make faults        break replicas behind this, HAProxy and nginx, in forty minutes; ARGS=--quick takes half a minute"
	@echo
	@echo 'ARGS passes arguments on: make run ARGS="--port 8080", make test ARGS="tests/proxy -x"'

run:
	@tools/bootstrap.sh run
	@exec .venv/bin/python -m tentaculo serve $(ARGS)

test:
	@tools/bootstrap.sh dev
	@tools/bootstrap.sh system
	@.venv/bin/python -m pytest --ignore=tests/conformance $(ARGS)

conformance:
	@tools/bootstrap.sh dev
	@tools/bootstrap.sh conformance
	@.venv/bin/python -m pytest tests/conformance $(ARGS)

soak:
	@tools/bootstrap.sh dev
	@.venv/bin/python -m tests.soak $(if $(REQUESTS),--requests $(REQUESTS)) $(ARGS)

check:
	@tools/bootstrap.sh dev
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy

# Also: CASES=get,post PEERS=ours,nginx ROUNDS=3 SECONDS=3
bench:
	@tools/bootstrap.sh run
	@tools/bootstrap.sh bench
	@.venv-bench/bin/python -m bench $(if $(CASES),--cases $(CASES)) $(if $(PEERS),--peers $(PEERS)) \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

faults:
	@tools/bootstrap.sh run
	@tools/bootstrap.sh faults
	@.venv/bin/python -m bench.faults $(ARGS)
