# The commands people type. Without make: the lines below, one by one.

# The Python of the environment: `make PYTHON=python3.13` changes it.
PYTHON ?= $(shell [ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)
VENV = PATH="$(CURDIR)/.venv/bin:$$PATH"

# Runs a command of tools/; who deleted its folder is told so.
tool = $(if $(wildcard tools/$(1) tools/$(1).py),$(VENV) python -m tools.$(subst /,.,$(1)),\
  echo "error: this project has no tools/$(1)" >&2; exit 1 $(HASH))
HASH := \#

# What `make compare` compares: make compare COMPARE="train.batch_size=50,100 --seeds 5"
COMPARE ?= train.lr=0.001,0.003,0.01,0.03,0.1,0.3,1 --seeds 3

.PHONY: environment repro verify deps test test-slow fuzz audit repair check format lock extra compare recipe exp fresh review notebook try remote share pull

repro: environment
	@$(VENV) python -m dvc repro
	@$(call tool,summary)

# Rebuilds the last commit elsewhere and compares every byte. Another revision,
# and options: make verify REV=v1.0 ARGS="--cpu Nehalem"
verify: environment
	@$(call tool,verify) $(ARGS) $(REV)

# One experiment in this folder, and what it changed: make exp SET="train.lr=0.1 train.epochs=10"
exp: environment
	@$(VENV) python -m dvc exp run $(addprefix -S ,$(SET))
	@$(VENV) python -m dvc exp diff

# After a change of imports: writes into dvc.yaml which files each stage depends on.
deps: environment
	@$(call tool,deps)

compare: environment
	@$(call tool,compare) $(COMPARE)

# A recipe of recipes/, and other knobs than it has: make recipe NAME=cnn-mnist SEEDS=5
# SET="train.epochs=20". Without NAME: what recipes there are.
recipe: environment
	@$(call tool,recipe) $(NAME) $(SET) $(if $(SEEDS),--seeds $(SEEDS))

# Whether dvc.lock belongs to the code: `make fresh REV=main` for a commit.
fresh: environment
	@$(call tool,fresh) $(REV)

# What this branch does to the metrics: `make review SEEDS=5` compares the recipes.
review: environment
	@$(call tool,review) $(BASE) $(HEAD) $(if $(SEEDS),--seeds $(SEEDS))

# Runs notebooks/explore.ipynb and keeps what it shows.
notebook: environment
	@$(call tool,notebook)

# A page to draw on, and what the model makes of it: make try ARGS="--rev cnn-mnist-seed-1"
try: environment
	@$(call tool,predict/draw) $(ARGS)

# The remote that the team shares: make remote URL=s3://bucket/team
# OPTIONS="endpointurl=https://s3.example.org". Without URL: tries out the one there is.
remote: environment
	@$(call tool,share/remote) $(URL) $(OPTIONS)

# Sends what this commit and its experiments computed: make share REV=HEAD~1,
# ARGS=--verify checks the files that are there already, and repairs them.
share: environment
	@$(call tool,share) $(ARGS) $(REV)

# Gets what others computed from this commit, so that nothing of it runs again.
pull: environment
	@$(call tool,share/pull) $(ARGS) $(REV)

test: environment
	@$(VENV) python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: environment
	@$(VENV) python -m pytest -n 2 --dist loadfile -m slow --timeout 1800

# Many random inputs to every reader: make fuzz EXAMPLES=10000 SEED=1
fuzz: EXAMPLES ?= 1000
fuzz: SEED := $(or $(SEED),$(shell date +%s))
fuzz: environment
	@echo "make fuzz EXAMPLES=$(EXAMPLES) SEED=$(SEED)"
	@$(VENV) EXAMPLES=$(EXAMPLES) python -m pytest -m fuzz --timeout 0 \
	  --hypothesis-profile fuzz --hypothesis-seed $(SEED)

# Known vulnerabilities of the pinned packages; needs a network.
audit: environment
	@$(call tool,audit)

# Moves corrupted files, on the disk or in DVC's cache, out of the way, and recreates them.
repair: environment
	@$(call tool,repair)
	@$(VENV) python -m dvc repro

check: environment
	@$(VENV) ruff format --check .
	@$(VENV) ruff check .
	@$(VENV) mypy
	@$(VENV) check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

format: environment
	@$(VENV) ruff format .
	@$(VENV) ruff check --fix .

# Pins what pyproject.toml asks for, and leaves what is pinned as it is. To the newest
# versions that it allows: make lock UPGRADE=1, or UPGRADE="torch torchvision" for these.
lock: environment
	@$(call tool,pin) $(if $(filter 1,$(UPGRADE)),--upgrade,$(addprefix --upgrade-package ,$(UPGRADE)))

# Adds optional packages to .venv: make extra NAME=s3, or NAME="ssh ray"
extra:
	@"$(PYTHON)" -m tools.extra $(NAME)

# Makes .venv, and again whenever the content of the lock is another.
environment:
	@"$(PYTHON)" -m tools.environment
