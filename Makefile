# The verbs of a checkout. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo demo-down check test test-charts test-lab test-shell docs benchmark clean

help:  ## List the verbs
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

$(READY): setup.cfg pyproject.toml
	@echo "==> Creating the virtual environment $(VENV)"
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "==> Installing python3-venv from the distribution's packages"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; }
	@python3 -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[lab,test]'
	@touch $@

demo: $(READY)  ## Four hosts in containers, made into a K3s cluster with the smallest platform
	$(BIN)/picluster lab up
	$(BIN)/picluster secrets init --env lab
	$(BIN)/pyinfra -y inventories/lab.py deploys/site.py
	$(BIN)/picluster status --env lab
	@echo
	@echo "Look around:"
	@echo "  $(BIN)/picluster lab ssh pi-master sudo k3s kubectl get nodes -o wide"
	@echo "  $(BIN)/picluster lab ssh pi-master sudo k3s kubectl get pods --all-namespaces"
	@echo "  $(BIN)/picluster lab ssh pi-worker-1"
	@echo "  $(BIN)/picluster kubeconfig --env lab        # for your own kubectl"
	@echo "  $(BIN)/pyinfra -y inventories/lab.py deploys/site.py    # again: nothing changes"
	@echo "  make demo-down                               # and nothing is left"

demo-down: $(READY)  ## Remove the demo's hosts, networks and routes
	$(BIN)/picluster lab down

# Two commands at the same time, for two cores (gevent and pytest-xdist don't go together); what the second prints comes
# when both have ended.
define both
@mkdir -p build; ( $(2) ) > build/$@.log 2>&1 & second=$$!; ( $(1) ); first=$$?; \
  wait $$second; status=$$?; cat build/$@.log; exit $$((first | status))
endef

check: $(READY)  ## Lint, types and unit tests: the inner loop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(call both, PYTHON="$(CURDIR)/$(BIN)/python" tests/typecheck && $(BIN)/pytest -q tests/unit/test_[!p-z]*.py, \
	  $(BIN)/pytest -q tests/unit/test_[p-z]*.py)

test: check  ## Everything that CI runs
	$(call both, $(MAKE) --no-print-directory test-charts, $(MAKE) --no-print-directory test-shell)
	$(MAKE) --no-print-directory test-lab

CHECKOV := build/checkov
$(CHECKOV)/.ready: tests/charts/checkov-requirements.txt | $(READY)
	@echo "==> Creating an environment for checkov, $(CHECKOV)"
	@rm -rf $(CHECKOV) && python3 -m venv $(CHECKOV)
	@$(CHECKOV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

test-charts: $(READY) $(CHECKOV)/.ready  ## Our own charts: their manifests and their scripts
	CHECKOV=$(CHECKOV)/bin/checkov $(BIN)/pytest -q tests/charts

test-shell: $(READY)  ## What runs on hosts, under dash; the firewall in network namespaces (needs root)
	@command -v nft >/dev/null && command -v ip >/dev/null && command -v iptables >/dev/null || { \
	  echo "==> Installing nftables, iproute2 and iptables from the distribution's packages"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nftables iproute2 iptables >/dev/null; }
	$(BIN)/pytest -q tests/shell

# Much of a lab test is waiting, so there are more files at a time than cores. The longest ones begin.
LAB_STREAMS ?= 3
LAB_FILES := $(patsubst %,tests/lab/test_%.py,platform site helm docs killed firewall k3s vpn fleet standin)
LAB_FILES += $(filter-out $(LAB_FILES),$(wildcard tests/lab/test_*.py))
test-lab: $(READY)  ## Whole verbs on hosts in containers (needs root)
	@echo "==> $(LAB_STREAMS) files of tests at a time; what one prints is in build/lab/, and comes here when it has ended"
	@rm -rf build/lab && mkdir -p build/lab
	@printf '%s\n' $(LAB_FILES) | \
	  PYTEST=$(BIN)/pytest xargs --max-procs=$(LAB_STREAMS) --process-slot-var=STREAM --max-args=1 tests/lab/run-file

docs: $(READY)  ## Write the generated pages of docs/reference anew
	$(BIN)/python -m piclusterops.settings_reference > docs/reference/settings.md
	$(BIN)/python -m piclusterops.catalogue_reference > docs/reference/catalogue.md

benchmark: $(READY)  ## Compare with ansible-core on the lab's hosts (needs the lab)
	$(BIN)/python benchmarks/run.py

clean:  ## Remove the virtual environment and build leftovers
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
