# Tickbridge in a container. `docker run tickbridge` runs `tickbridge run`. Words after the image
# name run another command: `docker run tickbridge tail trade`. Settings come from TICKBRIDGE_…
# variables, or from a file mounted at /etc/tickbridge/tickbridge.yaml. docs/guides/deploy.md lists
# the contents and sizes of the layers.
#
# The syntax is plain, so the builder before BuildKit accepts it as well.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# Package index to use instead of PyPI. No layer of the final image names it.
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements requirements
# Wheels only, because there is no compiler here, and no package needs one. Compiled to bytecode
# here, because a read-only file system cannot store bytecode, and each start would take a second
# longer.
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
# The final image needs no package installer: neither Python's nor Debian's.
RUN python -c "import ensurepip, pip, shutil; [shutil.rmtree(m.__path__[0]) for m in (ensurepip, pip)]" \
 && rm -f /usr/bin/pip* /usr/local/bin/pip* /usr/bin/apt* /usr/bin/dpkg* \
 && install -d -o 10001 -g 10001 /var/lib/tickbridge
COPY --from=build /opt/tickbridge /opt/tickbridge
ENV PATH=/opt/tickbridge/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A tickbridge.yaml in this folder is used without --config.
WORKDIR /etc/tickbridge
# A number, so that Kubernetes can check that it is not root (runAsNonRoot).
USER 10001:10001
EXPOSE 8080
# Checks that the event loop is running, not that data flows: a restart of an unhealthy container
# must not lose the events that wait for Kafka. Follows http.port only if a variable sets it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import os, urllib.request as r; \
r.urlopen('http://127.0.0.1:%s/livez' % os.environ.get('TICKBRIDGE_HTTP__PORT', 8080), timeout=4)"]
ENTRYPOINT ["tickbridge"]
CMD ["run"]
# These come last, so that another revision of the same program shares all layers.
ARG VERSION=unknown
ARG REVISION=unknown
ENV TICKBRIDGE_REVISION=${REVISION}
LABEL org.opencontainers.image.title="Tickbridge" \
      org.opencontainers.image.description="Binance market data to Kafka and Redis: complete, in order, and provably so" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
