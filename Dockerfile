# The operator: Python, kopf, aiohttp, msgspec; no Node, no cdk8s. Runs as 65532 with a read-only root filesystem.
# The base is named by its tag, and so not what it was yesterday. The release workflow resolves the tag to a digest, builds
# from that, and says so in the image's provenance; where it matters to you, build with --build-arg BASE=...@sha256:...
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY crds crds
COPY resources resources
COPY constructs constructs
COPY synth synth
COPY controller controller
COPY client client
# Exactly these versions, checked by their hashes, of what builds as of what runs; a bot or `make lock` renews them.
RUN pip install --no-cache-dir --require-hashes -r controller/build.lock \
 && pip install --no-cache-dir --no-compile --prefix=/install --require-hashes -r controller/requirements.lock \
 && pip install --no-cache-dir --no-compile --prefix=/install --no-deps --no-build-isolation .

FROM ${BASE}
COPY --from=build /install /usr/local
USER 65532:65532
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["python3", "-m", "dask_controller"]
