# The operator: Python, kopf, aiohttp, msgspec; no Node, no cdk8s. Runs as 65532 with a read-only root filesystem.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY crds crds
COPY resources resources
COPY constructs constructs
COPY synth synth
COPY controller controller
# Exactly these versions, checked by their hashes, of what builds as of what runs; a bot or `make lock` renews them.
RUN pip install --no-cache-dir --require-hashes -r controller/build.lock \
 && pip install --no-cache-dir --no-compile --prefix=/install --require-hashes -r controller/requirements.lock \
 && pip install --no-cache-dir --no-compile --prefix=/install --no-deps --no-build-isolation .

FROM python:3.13-slim
COPY --from=build /install /usr/local
USER 65532:65532
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["python3", "-m", "dask_controller"]
