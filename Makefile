# make run    tells a story; ARGS='--prompt "Once upon a time"' are the program's arguments
# make test   runs the test suite on every core; PYTEST_ARGS='-k rope' are pytest's
# make build  compiles what a run on this processor needs, where it changed
# make docs   builds the site of the documents, with a page per public name, in build/site
# make wheel  puts a wheel for every processor of this kind into dist/
# make clean  removes everything that was built, .venv included
# Each of them first installs whatever is missing.

.PHONY: run test build docs wheel clean
PYTHON_IN_VENV = .venv/bin/python

build:
	@tools/setup.sh run

run: build
	@$(PYTHON_IN_VENV) -m pipeline.run $(ARGS)

test:
	@tools/setup.sh test
	@$(PYTHON_IN_VENV) -m pytest -n auto --dist worksteal --durations=15 $(PYTEST_ARGS)

docs:
	@tools/setup.sh test
	@$(PYTHON_IN_VENV) -m mkdocs build -q

wheel:
	@tools/setup.sh wheel
	@$(PYTHON_IN_VENV) tools/make_wheel.py dist

clean:
	rm -rf .venv build dist onebuf.egg-info pipeline/onebuf.metallib pipeline/onebuf-host.metallib pipeline/_core*.so
