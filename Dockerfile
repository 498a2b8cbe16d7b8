# Tickbridge in a container: `docker run tickbridge` is `tickbridge run`, `docker run tickbridge tail
# trade` any other command. Settings come from TICKBRIDGE_… variables, or from a file mounted at
# /etc/tickbridge/tickbridge.yaml. docs/operations.md says what is in it and how large it is.
#
# Plain Dockerfile syntax: the builder that came before BuildKit takes it as well.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# Another package index than pip's own. Only in this stage: no layer of the result names it.
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements requirements
# Wheels only: there is no compiler here, and nothing needs one. Compiled to bytecode here, since a
# read-only file system could not keep it: each start would take a second longer.
RUN python -m venv --without-pip /opt/tickbridge \
 && python -m venv /build \
 && /build/bin/pip install --quiet --only-binary :all: --require-hashes -r requirements/build.txt \
 && /build/bin/pip --python /opt/tickbridge/bin/python \
      install --quiet --only-binary :all: --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /build/bin/pip --python /opt/tickbridge/bin/python install --quiet --no-deps /wheel/*.whl

FROM ${PYTHON_IMAGE}
# An image that runs needs nothing that installs.
RUN python -c "import ensurepip, pip, shutil; [shutil.rmtree(m.__path__[0]) for m in (ensurepip, pip)]" \
 && rm -f /usr/bin/pip* /usr/local/bin/pip* \
 && install -d -o 10001 -g 10001 /var/lib/tickbridge
COPY --from=build /opt/tickbridge /opt/tickbridge
ENV PATH=/opt/tickbridge/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Where a tickbridge.yaml is found without --config.
WORKDIR /etc/tickbridge
# A number: Kubernetes proves by it that this is not root (runAsNonRoot).
USER 10001:10001
EXPOSE 8080
# Whether the process turns, not whether the feed flows: something that restarts containers must
# not throw away the events that wait for Kafka. Another http.port is seen here if a variable sets it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import os, urllib.request as r; \
r.urlopen('http://127.0.0.1:%s/livez' % os.environ.get('TICKBRIDGE_HTTP__PORT', 8080), timeout=4)"]
ENTRYPOINT ["tickbridge"]
CMD ["run"]
# Last: another revision of the same program shares all layers.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tickbridge" \
      org.opencontainers.image.description="Binance market data to Kafka and Redis: complete, in order, and provably so" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
