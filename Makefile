# Everything starts from Python 3.11 or newer and make; `setup` brings the rest.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: setup up down test check contract bench lock

setup: ## make .venv with `ehcp` in it; nothing to do when it is current
	@$(PYTHON) deploy/setup_environment.py

up: setup ## start everything and file the sample plans (ARGS="--detach", "--once --json", "--brokers 3")
	@$(BIN)/ehcp up $(ARGS)

down: setup ## stop everything (ARGS=--wipe removes its data)
	@$(BIN)/ehcp down $(ARGS)

test: setup ## all tests, on real servers that the command starts and stops
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

check: setup ## style, types, who may import whom, generated files current, last release not broken
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m schemas.generate --check
	@$(BIN)/python -m schemas.asyncapi --check
	@$(BIN)/python -m schemas.webhooks --check
	@$(BIN)/python -m deploy.openapi --check
	@$(BIN)/python -m schemas.compatibility

contract: setup ## write what is published under schemas/ from the models and the routes
	@$(BIN)/python -m schemas.generate
	@$(BIN)/python -m schemas.asyncapi
	@$(BIN)/python -m schemas.webhooks
	@$(BIN)/python -m deploy.openapi

bench: setup ## plans per second and commit-to-filed time, beside a bare loop of the same writes
	@$(BIN)/python -m tests.bench $(ARGS)

lock: setup ## lock the newest allowed versions: names, versions and hashes, no addresses
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --extra machine --group dev --upgrade pyproject.toml --output-file requirements.lock
	@$(BIN)/python -m services.cli.machine.jars
