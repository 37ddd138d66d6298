# docker build -t runtime .
# docker build -t runtime:sklearn --build-arg EXTRAS=sklearn .        docs/deploy.md says more
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
ARG EXTRAS=""
ARG SOURCE_DATE_EPOCH=1700000000
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore \
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/venv
WORKDIR /src

# The certificates of a TLS-inspecting proxy come as a secret: --secret id=cacert,src=FILE. A private index: id=pipconf.
COPY requirements requirements
RUN --mount=type=secret,id=cacert,target=/run/secrets/ca.pem,required=false \
    --mount=type=secret,id=pipconf,target=/run/secrets/pip.conf,required=false \
    if [ -s /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi; \
    if [ -s /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi; \
    set -- -r requirements/core.txt -r requirements/grpc.txt; IFS=,; \
    for extra in ${EXTRAS}; do set -- "$@" -r "requirements/$extra.txt"; done; \
    /opt/tools/bin/pip install --quiet --require-hashes -r requirements/build.txt && \
    /opt/tools/bin/pip --python /opt/venv/bin/python install --quiet --require-hashes "$@"

# Some packages carry sources for a newer Python, which do not compile: no reason to stop.
COPY . .
RUN for wheel in wheels/*.whl; do \
        [ ! -e "$wheel" ] || /opt/tools/bin/pip --python /opt/venv/bin/python install --quiet --no-deps --no-index "$wheel" || exit 1; \
    done && \
    /opt/tools/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /tmp/wheel . && \
    /opt/tools/bin/pip --python /opt/venv/bin/python install --quiet --no-deps --no-index /tmp/wheel/*.whl && \
    find /opt/venv -type d -name tests -path '*/site-packages/*' -prune -exec rm -rf {} + && \
    { /opt/venv/bin/python -m compileall -qq --invalidation-mode unchecked-hash /opt/venv/lib || true; } && \
    /opt/tools/bin/cyclonedx-py environment --output-reproducible --output-file /opt/venv/sbom.cdx.json /opt/venv/bin/python

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
ARG REVISION=""
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="ModelKit Runtime" \
      org.opencontainers.image.description="Serves a ModelKit: pulls it, verifies every byte, answers predictions" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true"
# Some bases come without the byte code of the standard library; on a read-only file system it would be compiled at every start.
RUN stdlib="$(python3 -B -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" && \
    if [ -z "$(find "$stdlib/__pycache__" -name 'argparse.*.pyc')" ]; then \
        python3 -B -m compileall -q --invalidation-mode unchecked-hash -x '/(test|idlelib|lib2to3|turtledemo)/' "$stdlib"; \
    fi
COPY --from=build /opt/venv /opt/venv
# /tmp is the one place the runtime writes to; with --read-only, mount a tmpfs or a volume there, or set RUNTIME_CACHE_DIR.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp RUNTIME_HOST=0.0.0.0 PYTHONDONTWRITEBYTECODE=1
USER 10001:0
WORKDIR /tmp
EXPOSE 8080 8081
HEALTHCHECK --interval=15s --timeout=5s --start-period=5m CMD ["runtime", "health"]
ENTRYPOINT ["runtime"]
