# make demo   the whole way on synthetic data, in a folder of its own
# make test   every test
# make lint   ruff for Python, sqlfluff for SQL

# Metaflow wants a user name, and root in a container often has none.
export METAFLOW_USER ?= $(or $(USERNAME),$(USER),$(LOGNAME),me)
PYTHON ?= python3.11
BIN := $(CURDIR)/.venv/bin
DEMO := $(CURDIR)/demo
SCALE ?= 0.01

.PHONY: demo test lint lock clean

.venv/requirements: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.txt
	touch $@

.venv/requirements-dev: .venv/requirements requirements-dev.txt
	$(BIN)/pip install --quiet --require-hashes --requirement requirements-dev.txt
	touch $@

demo: .venv/requirements
	$(BIN)/python synthetic.py $(DEMO) --scale $(SCALE)
	$(BIN)/python create_parquet_dataset.py --data-dir $(DEMO)
	cd dbt && $(BIN)/dbt run --quiet --vars '{data_dir: $(DEMO)}'
	cd $(DEMO) && $(BIN)/python $(CURDIR)/data_prep.py run --row_sampling 0
	@cd $(DEMO) && $(BIN)/python $(CURDIR)/show_run.py

test: .venv/requirements-dev
	$(BIN)/pytest

lint: .venv/requirements-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd dbt && $(BIN)/sqlfluff lint models tests

# Pins every package, also the indirect ones, with the hashes of its files.
lock: .venv/requirements-dev
	$(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe requirements.in
	$(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe requirements-dev.in

clean:
	rm -rf .venv demo dbt/target dbt/logs
