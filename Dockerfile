# The image that `cuadre serve` and `cuadre migrate` run from. Everything installed is hash-checked; the last stage
# holds the service and its libraries alone. Runs as any numeric user and with a read-only root file system.

ARG PYTHON_VERSION=3.11

FROM docker.io/library/python:${PYTHON_VERSION}-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The build backend, hash-checked, in an environment that stays behind in this stage.
COPY requirements/build.txt requirements/service.txt requirements/
RUN python -m venv /opt/build \
 && /opt/build/bin/python -m pip install --require-hashes -r requirements/build.txt \
 && python -m venv --without-pip /opt/cuadre \
 && /opt/build/bin/python -m pip --python /opt/cuadre/bin/python install --require-hashes -r requirements/service.txt
COPY pyproject.toml README.md LICENSE ./
COPY migrations migrations
COPY service service
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /opt/wheels . \
 && /opt/build/bin/python -m pip --python /opt/cuadre/bin/python install --no-deps --no-index /opt/wheels/*.whl

FROM docker.io/library/python:${PYTHON_VERSION}-slim-bookworm
LABEL org.opencontainers.image.title="cuadre" \
      org.opencontainers.image.description="Keeps a merchant's own Postgres equal to Mercado Pago's orders." \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/cuadre /opt/cuadre
COPY deploy/healthcheck.py /opt/cuadre/healthcheck.py
ENV PATH=/opt/cuadre/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "/opt/cuadre/healthcheck.py"]
# Exec form: SIGTERM reaches the service itself, which then drains.
ENTRYPOINT ["cuadre"]
CMD ["serve"]
