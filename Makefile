# make demo and make test are for everybody; make help lists the others.

# Metaflow wants a user name, and root in a container often has none.
export METAFLOW_USER ?= $(or $(USERNAME),$(USER),$(LOGNAME),me)
SHELL := bash
# Paths are seen from here, or quoted: the folder's name may hold a blank.
# The first Python of 3.11, 3.12 and 3.13, which are the ones that are tried; python3 where it is one of them.
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13,$(shell \
	$(name) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $(name))) \
	python3.11-or-3.12-or-3.13-is-missing)
BIN := .venv/bin
SCALE ?= 0.01
# Two files of tests at a time; a test that hangs ends after 15 minutes.
AT_ONCE := -n 2 --dist loadfile --timeout 900 --timeout-method thread
# The files name every package, so nothing is left to find out: with its dependencies, pip would ask for
# the newest google-auth beside the pinned google-auth[requests], and miss its hash.
INSTALL := python -m pip install --quiet --no-deps --require-hashes --requirement
COMPILE := pip-compile --quiet --generate-hashes --no-strip-extras --allow-unsafe --no-emit-find-links --no-emit-index-url
# A program from outside Python, $(1) of Debian's package $(2): installed where it is missing, or a sentence.
DEBIAN = (PATH=$$PATH:$$JAVA_HOME/bin:$$(echo /usr/lib/postgresql/*/bin | tr ' ' :); command -v $(1)) >/dev/null \
	|| (apt-get update && apt-get install --yes $(2)) >/dev/null 2>&1 \
	|| { echo "$(1) is missing: sudo apt-get install $(2), or whatever brings it on your system." >&2; exit 1; }

.PHONY: help pages demo card docs notebooks test test-faults test-docs test-spark test-postgres test-warehouses test-trainers test-journey journey lint bench audit lock clean

.venv/requirements: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/$(INSTALL) requirements.txt
	touch $@

# More on top, in the same environment.
.venv/requirements-%: requirements/%.txt .venv/requirements
	$(BIN)/$(INSTALL) $<
	touch $@

# Packages that cannot stand beside the others.
.venv-%/requirements: requirements/%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/$(INSTALL) $<
	touch $@

# Where pip finds no CPU build of torch, LensKit, which needs it, is left out and said.
.venv-trainers/requirements: requirements/trainers.txt
	$(PYTHON) -m venv .venv-trainers
	.venv-trainers/bin/$(INSTALL) $< || { \
	  sed '/^torch==/,/^    # via/d' $< >.venv-trainers/without_torch.txt && \
	  .venv-trainers/bin/$(INSTALL) .venv-trainers/without_torch.txt && \
	  echo "No CPU build of torch here (PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu): LensKit is skipped."; }
	touch $@

help:  ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/make \1\t\2/p' Makefile | expand -t 22

# bash's time says how long each stage took.
demo journey: export TIMEFORMAT = (%1R seconds)

demo: .venv/requirements  ## the whole way on invented data, in the folder demo/
	$(BIN)/python tools/synthetic.py demo --scale $(SCALE)
	time $(BIN)/python create_parquet_dataset.py --data-dir demo
	cd dbt && time ../$(BIN)/dbt run --quiet --vars '{data_dir: ../demo}'
	cd demo && export METAFLOW_DATASTORE_SYSROOT_LOCAL="$$PWD" && time ../$(BIN)/python ../data_prep.py run --row_sampling 0
	@echo && du -sh demo/filtered_dataframe.parquet demo/.metaflow
	@echo && echo $(BIN)/python notebooks/first_rows.py demo && $(BIN)/python notebooks/first_rows.py demo

# 1.5 million grocery purchases out of a Python package.
journey: .venv/requirements-journey  ## the same on a real shop's purchases, in the folder journey/
	$(BIN)/python tools/journey.py journey
	time $(BIN)/python create_parquet_dataset.py --project shops/complete_journey --data-dir journey
	cd shops/complete_journey && time ../../$(BIN)/dbt run --quiet --vars '{data_dir: ../../journey}'
	cd journey && export METAFLOW_DATASTORE_SYSROOT_LOCAL="$$PWD" && time ../$(BIN)/python ../data_prep.py run \
	  --project ../shops/complete_journey --dataset "$$PWD/filtered_dataframe.parquet" --row_sampling 0
	@cd journey && METAFLOW_DATASTORE_SYSROOT_LOCAL="$$PWD" ../$(BIN)/python ../data_prep.py card get get_dataset card.html
	@echo && echo open journey/card.html && $(BIN)/python tools/popularity.py journey

card: .venv/requirements  ## open the card of the demo's last run
	cd demo && METAFLOW_DATASTORE_SYSROOT_LOCAL="$$PWD" ../$(BIN)/python ../data_prep.py card view get_dataset

# dbt's own documentation needs no data so: its generate would run the hooks and read the files.
docs: .venv/requirements .venv-docs/requirements  ## build this documentation as a site, in the folder site/
	cd dbt && ../$(BIN)/dbt --quiet parse && ../$(BIN)/dbt --quiet docs generate --static --no-compile --empty-catalog
	cp dbt/target/static_index.html docs/dbt-models.html
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "open site/index.html; its search works where it is served: $(BIN)/python -m http.server -d site"

pages: .venv/requirements  ## write the parts of docs/ that come from YAML, help texts and notebooks
	$(BIN)/python tools/pages.py

notebooks: .venv/requirements-notebooks .venv-trainers/requirements  ## run the notebooks on the last demo and journey
	METAFLOW_DATASTORE_SYSROOT_LOCAL="$$PWD/demo" $(BIN)/jupyter execute --inplace notebooks/explore.ipynb
	METAFLOW_DATASTORE_SYSROOT_LOCAL="$$PWD/journey" .venv-trainers/bin/jupyter execute --inplace notebooks/first_recommender.ipynb

test: .venv/requirements-dev  ## every quick test, 6 minutes on two cores
	$(BIN)/python -m pytest $(AT_ONCE)

test-faults: .venv/requirements-dev  ## kills, full disks, hostile files: all under "What you can rely on", 16 minutes
	$(BIN)/python -m pytest -m faults $(AT_ONCE)

# With the first demo on each Python that is here.
test-docs: docs .venv/requirements-dev  ## every block of README and docs/ as printed, the site, each Python; 10 minutes
	$(BIN)/python -m pytest -m docs

test-spark: .venv/requirements-dev .venv/requirements-spark  ## the same models on Spark; installs Java where apt-get can
	$(call DEBIAN,java,openjdk-17-jre-headless)
	$(BIN)/python -m pytest -m spark

test-postgres: .venv/requirements-dev .venv/requirements-postgres  ## and on PostgreSQL, installed likewise
	$(call DEBIAN,initdb,postgresql)
	$(BIN)/python -m pytest -m postgres

test-warehouses: .venv-warehouses/requirements .venv-crucible/requirements  ## and on emulators of Snowflake and BigQuery
	.venv-warehouses/bin/$(INSTALL) requirements/fakesnow.txt
	.venv-warehouses/bin/python -m pytest -m warehouses tests/transform/test_warehouses.py

test-trainers: journey .venv-trainers/requirements  ## the recipes of docs/trainers.md and the notebook, with the real libraries
	.venv-trainers/bin/python -m pytest -m trainers tests/test_trainers.py

test-journey: journey .venv/requirements-dev  ## make journey, and its tables computed once more in pandas
	$(BIN)/python -m pytest -m journey

lint: .venv/requirements-dev  ## ruff and mypy for Python, sqlfluff for SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd dbt && ../$(BIN)/sqlfluff lint models tests
	cd shops/complete_journey && ../../$(BIN)/sqlfluff lint models

bench: .venv/requirements-dev  ## what each stage costs, beside other ways: make bench SCALE=0.1
	$(BIN)/python benchmarks/bench.py --scale $(SCALE)

# Known vulnerabilities of the pinned packages; without --strict one that was not looked up would pass.
audit: .venv/tools/installed  ## known vulnerabilities of the pinned packages; asks PyPI
	@.venv/tools/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements.txt 2>.venv/audit; \
	code=$$?; cat .venv/audit >&2; if grep -q ^ERROR .venv/audit; then \
	echo "make audit needs the network: PyPI did not say whether this package is safe, so nothing was audited." >&2; \
	fi; exit $$code

# Pins every package, also the indirect ones, with the hashes of its files; what is pinned already stays.
lock: export CUSTOM_COMPILE_COMMAND = make lock
lock: .venv/tools/installed  ## pin requirements.txt and requirements/*.txt anew, with hashes
	.venv/tools/bin/$(COMPILE) --output-file requirements.txt requirements/base.in
	cd requirements && for part in notebooks dev docs journey spark postgres warehouses fakesnow crucible trainers; do \
	  ../.venv/tools/bin/$(COMPILE) $$part.in || exit; done

.venv/tools/installed: .venv/requirements
	$(PYTHON) -m venv .venv/tools
	.venv/tools/bin/python -m pip install --quiet pip-tools==7.6.2 pip-audit==2.10.1
	touch $@

clean:  ## remove the environments and all that demo, docs and dbt have made
	rm -rf .venv .venv-* demo site docs/dbt-models.html dbt/target dbt/logs dbt/spark-warehouse
