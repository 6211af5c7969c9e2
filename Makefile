# Short names for what README, CONTRIBUTING and CI run. `python3 -m demo --help` and `python3 -m tests --help` tell more.
PYTHON ?= python3

.PHONY: demo test unit synth bench image lock vendor

demo: ; $(PYTHON) -m demo
test: ; $(PYTHON) -m tests
unit: ; .venv/bin/python -m pytest tests/unit tests/schema -m "not node and not control_plane"
synth: ; .venv/bin/python -m dask_synth
bench: ; .venv/bin/python -m bench
image: ; docker build --tag ghcr.io/dask-gitops/operator:0.1.0 .
LOCK = uv pip compile --generate-hashes --universal --python-version 3.11
lock: ; $(LOCK) pyproject.toml --extra controller --extra tracing -o controller/requirements.lock && printf '%s\n' "hatchling>=1.27" "hatch-fancy-pypi-readme>=25.1" | $(LOCK) - -o controller/build.lock
# DOCUMENT: api/v1 of a Kubernetes release, as `kubectl get --raw /openapi/v3/api/v1` prints it.
vendor: ; .venv/bin/python -m dask_crds.kubernetes.vendor $(DOCUMENT) $(VERSION) && .venv/bin/ruff format crds && $(MAKE) synth
