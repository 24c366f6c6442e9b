# The commands people type. Without make: the lines below, one by one.

PYTHON ?= python3
VENV = PATH="$(CURDIR)/.venv/bin:$$PATH"

# What `make compare` compares: make compare COMPARE="train.batch_size=50,100 --seeds 5"
COMPARE ?= train.lr=0.001,0.003,0.01,0.03,0.1,0.3,1 --seeds 3

.PHONY: repro verify test test-slow fuzz audit repair check format lock extra compare recipe exp fresh review notebook try remote share pull

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

# A recipe of recipes/, and other knobs than it has: make recipe NAME=cnn-mnist SEEDS=5
# SET="train.epochs=20". Without NAME: what recipes there are.
recipe: .venv/requirements.lock
	@$(VENV) python -m tools.recipe $(NAME) $(SET) $(if $(SEEDS),--seeds $(SEEDS))

# Whether dvc.lock belongs to the code: `make fresh REV=main` for a commit.
fresh: .venv/requirements.lock
	@$(VENV) python -m tools.fresh $(REV)

# What this branch does to the metrics: `make review SEEDS=5` compares the recipes.
review: .venv/requirements.lock
	@$(VENV) python -m tools.review $(BASE) $(HEAD) $(if $(SEEDS),--seeds $(SEEDS))

# Runs notebooks/explore.ipynb and keeps what it shows.
notebook: .venv/requirements.lock
	@$(VENV) python -m tools.notebook

# A page to draw on, and what the model makes of it: make try ARGS="--rev cnn-mnist-seed-1"
try: .venv/requirements.lock
	@$(VENV) python -m tools.predict.draw $(ARGS)

# The remote that the team shares: make remote URL=s3://bucket/team
# OPTIONS="endpointurl=https://s3.example.org". Without URL: tries out the one there is.
remote: .venv/requirements.lock
	@$(VENV) python -m tools.share.remote $(URL) $(OPTIONS)

# Sends what this commit and its experiments computed: make share REV=HEAD~1,
# ARGS=--verify checks the files that are there already, and repairs them.
share: .venv/requirements.lock
	@$(VENV) python -m tools.share $(ARGS) $(REV)

# Gets what others computed from this commit, so that nothing of it runs again.
pull: .venv/requirements.lock
	@$(VENV) python -m tools.share.pull $(ARGS) $(REV)

test: .venv/requirements.lock
	@$(VENV) python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: .venv/requirements.lock
	@$(VENV) python -m pytest -n 2 --dist loadfile -m slow --timeout 1800

# Many random inputs to every reader: make fuzz EXAMPLES=10000 SEED=1
fuzz: EXAMPLES ?= 1000
fuzz: SEED := $(or $(SEED),$(shell date +%s))
fuzz: .venv/requirements.lock
	@echo "make fuzz EXAMPLES=$(EXAMPLES) SEED=$(SEED)"
	@$(VENV) EXAMPLES=$(EXAMPLES) python -m pytest -m fuzz --timeout 0 \
	  --hypothesis-profile fuzz --hypothesis-seed $(SEED)

# Known vulnerabilities of the pinned packages; needs a network.
audit: .venv/requirements.lock
	@$(VENV) python -m tools.audit

# Moves corrupted files, on the disk or in DVC's cache, out of the way, and recreates them.
repair: .venv/requirements.lock
	@$(VENV) python -m tools.repair
	@$(VENV) python -m dvc repro

check: .venv/requirements.lock
	@$(VENV) ruff format --check .
	@$(VENV) ruff check .
	@$(VENV) mypy
	@$(VENV) check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

format: .venv/requirements.lock
	@$(VENV) ruff format .
	@$(VENV) ruff check --fix .

# Pins every package again, to the newest version that pyproject.toml allows: first
# with the extras, so that adding one to an environment changes no other package.
PIN = uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
  --group dev pyproject.toml
lock: .venv/requirements.lock
	@$(VENV) $(PIN) --all-extras --upgrade --output-file requirements-extras.lock
	@cp requirements-extras.lock requirements.lock
	@$(VENV) $(PIN) --output-file requirements.lock

# Adds optional packages to .venv: make extra NAME=s3, or NAME="ssh ray"
extra: .venv/requirements.lock
	@$(VENV) python -m tools.extra $(NAME)

# The environment, made again whenever the lock changes.
.venv/requirements.lock: requirements.lock
	@"$(PYTHON)" -c 'import sys; sys.exit("samebits needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Installing the pinned packages into .venv: a minute or two, and 6 GB on Linux"
	"$(PYTHON)" -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@cp requirements.lock .venv/requirements.lock
