# One image for every stage. CPU:  docker build -t inspo:0.1.0 .     NVIDIA GPU:  docker build --build-arg TORCH_BACKEND=cu130 -t inspo:0.1.0 .
# Run a stage:  docker run --rm inspo:0.1.0 components.train --help
ARG BASE=python:3.11-slim

FROM ${BASE} AS environment
WORKDIR /build
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt uv
COPY pyproject.toml ./
COPY scripts/install.sh scripts/
ARG TORCH_BACKEND=cpu
ENV VIRTUAL_ENV=/opt/venv
RUN python -m venv --without-pip /opt/venv && UV_NO_CACHE=1 scripts/install.sh --requirements pyproject.toml

FROM ${BASE}
RUN useradd --uid 1000 --create-home inspo && install --directory --owner=inspo /inspo
COPY --from=environment /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/inspo PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE MPLCONFIGDIR=/tmp/matplotlib GIT_PYTHON_REFRESH=quiet
WORKDIR /inspo
COPY params.yaml dvc.yaml ./
COPY experiments experiments
COPY pipelines pipelines
COPY components components
COPY inspo_core inspo_core
RUN python -m compileall -q pipelines components inspo_core
USER 1000
ARG VERSION=0.1.0
ARG COMMIT=
# MLflow runs are tagged with the commit; inside the image there is no git to ask.
ENV INSPO_GIT_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="inspo" \
      org.opencontainers.image.description="Stages of the InSPO experiment pipeline" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
ENTRYPOINT ["python", "-m"]
