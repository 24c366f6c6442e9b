# The commands people type. Without make: the lines below, one by one.

PYTHON ?= python3
VENV = PATH="$(CURDIR)/.venv/bin:$$PATH"

.PHONY: repro verify test test-slow check format lock compare exp fresh review

repro: .venv/requirements.lock
	@$(VENV) python -m dvc repro
	@$(VENV) python -m tools.summary

# Rebuilds the last commit elsewhere and compares every byte. Another revision,
# and options: make verify REV=v1.0 ARGS="--cpu Nehalem"
verify: .venv/requirements.lock
	@$(VENV) python -m tools.verify $(ARGS) $(REV)

# One experiment in this folder, and what it changed: make exp SET="train.lr=0.1 train.epochs=10"
exp: .venv/requirements.lock
	@$(VENV) python -m dvc exp run $(addprefix -S ,$(SET))
	@$(VENV) python -m dvc exp diff

compare: .venv/requirements.lock
	@$(VENV) python -m tools.compare $(COMPARE)

# Whether dvc.lock belongs to the code: `make fresh REV=main` for a commit.
fresh: .venv/requirements.lock
	@$(VENV) python -m tools.fresh $(REV)

# What this branch does to the metrics: `make review SEEDS=5` compares the recipes.
review: .venv/requirements.lock
	@$(VENV) python -m tools.review $(BASE) $(HEAD) $(if $(SEEDS),--seeds $(SEEDS))

test: .venv/requirements.lock
	@$(VENV) python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: .venv/requirements.lock
	@$(VENV) python -m pytest -n 2 --dist loadfile -m slow --timeout 1800

check: .venv/requirements.lock
	@$(VENV) ruff format --check .
	@$(VENV) ruff check .
	@$(VENV) mypy
	@$(VENV) check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

format: .venv/requirements.lock
	@$(VENV) ruff format .
	@$(VENV) ruff check --fix .

# Pins every package again, to the newest version that pyproject.toml allows.
lock: .venv/requirements.lock
	@$(VENV) uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  --upgrade --group dev pyproject.toml --output-file requirements.lock

# The environment, made again whenever the lock changes.
.venv/requirements.lock: requirements.lock
	@"$(PYTHON)" -c 'import sys; sys.exit("samebits needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Installing the pinned packages into .venv: a minute or two, and 6 GB on Linux"
	"$(PYTHON)" -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@cp requirements.lock .venv/requirements.lock
