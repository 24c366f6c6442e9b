# The commands of the project. Without make, run the lines of a target one by one.

# The Python of the environment; to change it: make PYTHON=python3.13
PYTHON ?= $(shell [ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)
VENV = PATH="$(CURDIR)/.venv/bin:$$PATH"

# Runs a command of tools/, or reports that its folder was deleted.
tool = $(if $(wildcard tools/$(1) tools/$(1).py),$(VENV) python -m tools.$(subst /,.,$(1)),\
  echo "error: this project has no tools/$(1)" >&2; exit 1 $(HASH))
HASH := \#

# Default of `make compare`; to change it: make compare COMPARE="train.batch_size=50,100 --seeds 5"
COMPARE ?= train.lr=0.001,0.003,0.01,0.03,0.1,0.3,1 --seeds 3

.PHONY: environment repro verify deps test test-slow test-adapt fuzz audit repair check format lock extra compare recipe exp experiments apply fresh review notebook predict try remote share pull

repro: environment
	@$(VENV) python -m dvc repro
	@$(call tool,summary)

# Rebuilds the last commit in another folder and compares every byte. Another
# revision, and options: make verify REV=v1.0 ARGS="--cpu Nehalem"
verify: environment
	@$(call tool,verify) $(ARGS) $(REV)

# Lists the experiments with what differs between them; of the last three commits:
# make experiments ARGS="-n 3"
experiments: environment
	@$(call tool,list_experiments) $(ARGS)

# Runs one experiment in this folder and shows what it changed:
# make exp SET="train.lr=0.1 train.epochs=10"
exp: environment
	@$(VENV) python -m dvc exp run $(addprefix -S ,$(SET))
	@$(VENV) python -m dvc exp diff
	@echo "next  make experiments lists them"

# Applies an experiment to this folder, unless that drops an edit: make apply NAME=lr-0.1
apply: environment
	@$(call tool,apply) $(NAME)

# After a change of imports: updates the dependencies of each stage in dvc.yaml.
deps: environment
	@$(call tool,deps)

compare: environment
	@$(call tool,compare) $(COMPARE)

# Trains a recipe of recipes/, with other parameters: make recipe NAME=cnn-mnist SEEDS=5
# SET="train.epochs=20". Without NAME: lists the recipes.
recipe: environment
	@$(call tool,recipe) $(NAME) $(SET) $(if $(SEEDS),--seeds $(SEEDS))

# Checks that dvc.lock belongs to the code; of a commit: make fresh REV=main
fresh: environment
	@$(call tool,fresh) $(REV)

# Reviews what this branch changes in the metrics; to compare the recipes: make review SEEDS=5;
# another branch: make review HEAD=branch
review: environment
	@$(call tool,review) $(or $(BASE),$(if $(HEAD),'')) $(HEAD) $(if $(SEEDS),--seeds $(SEEDS))

# Runs notebooks/explore.ipynb and saves its output.
notebook: environment
	@$(call tool,notebook)

# Predicts images: make predict IMAGES="a.png folder/*.jpg" ARGS="--rev cnn-mnist-seed-1"
predict: environment
	@$(call tool,predict) $(ARGS) $(IMAGES)

# Opens a page to draw on, and shows the predictions: make try ARGS="--rev cnn-mnist-seed-1"
try: environment
	@$(call tool,predict/draw) $(ARGS)

# Sets the remote of the team: make remote URL=s3://bucket/team
# OPTIONS="endpointurl=https://s3.example.org". Without URL: checks the current one.
remote: environment
	@$(call tool,share/remote) $(URL) $(OPTIONS)

# Uploads the outputs of this commit and its experiments: make share REV=HEAD~1.
# With ARGS=--verify it checks and repairs the files that are there already.
share: environment
	@$(call tool,share) $(ARGS) $(REV)

# Downloads the outputs of this commit and its experiments, so that no stage runs again.
pull: environment
	@$(call tool,share/pull) $(ARGS) $(REV)

# On two processors three workers are quickest, because many tests wait for a process.
test: environment
	@$(VENV) python -m pytest -n 3 --dist loadfile -m "not slow"

test-slow: environment
	@$(VENV) python -m pytest -n 2 --dist loadfile -m "slow and not adapt" --timeout 1800

# Makes each change of docs/adapt.md in a clone, and runs the checks and the tests there.
test-adapt: environment
	@$(VENV) python -m pytest -m adapt --timeout 3600

# Tests every reader with many random inputs: make fuzz EXAMPLES=10000 SEED=1
fuzz: EXAMPLES ?= 1000
fuzz: SEED := $(or $(SEED),$(shell date +%s))
fuzz: environment
	@echo "make fuzz EXAMPLES=$(EXAMPLES) SEED=$(SEED)"
	@$(VENV) EXAMPLES=$(EXAMPLES) python -m pytest -m fuzz --timeout 0 \
	  --hypothesis-profile fuzz --hypothesis-seed $(SEED)

# Lists known vulnerabilities of the pinned packages; needs a network.
audit: environment
	@$(call tool,audit)

# Moves corrupted files out of the folder and DVC's cache, and recreates them.
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

# Pins what pyproject.toml requires, and keeps existing pins. To upgrade all:
# make lock UPGRADE=1; or some: make lock UPGRADE="torch torchvision"
lock: environment
	@$(call tool,pin) $(if $(filter 1,$(UPGRADE)),--upgrade,$(addprefix --upgrade-package ,$(UPGRADE)))

# Adds optional packages to .venv: make extra NAME=s3, or NAME="ssh ray"
extra:
	@"$(PYTHON)" -m tools.extra $(NAME)

# Creates .venv, and recreates it when the lock changes.
environment:
	@"$(PYTHON)" -m tools.environment
