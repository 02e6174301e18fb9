# `make demo` and `make test` need only Python >= 3.11 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test fuzz kill picture clean

demo: $(VENV)/.installed
	$(BIN)/criterium compare --repeats 5 --tune 4

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

fuzz: $(VENV)/.installed-test
	$(BIN)/python tests/data/fuzzing.py 3600 $$(date +%s)

# 200 kills at random moments; what goes on afterwards must come to the same bits.
kill: $(VENV)/.installed-test
	$(BIN)/python tests/comparison/killing.py 200 $$(date +%s)

# The picture of the README: make picture REPORT=runs/.../report.html
picture:
	chromium --headless --no-sandbox --hide-scrollbars --window-size=1100,1310 \
		--screenshot=$(CURDIR)/docs/images/report.png file://$(realpath $(REPORT))

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV)
