# One image for every stage:    docker build --build-arg COMMIT=$(git rev-parse HEAD) -t inspo:0.1.0 .
# for NVIDIA GPUs:              docker build --build-arg TORCH_BACKEND=cu130 -t inspo:0.1.0-gpu .
# the MLflow server's:          docker build --build-arg EXTRAS=s3,server -t inspo-mlflow:0.1.0 .
# Run a stage:                  docker run --rm inspo:0.1.0 components.train --help
ARG BASE=python:3.11-slim
# Where the build needs its own certificates or package index: an image on BASE with these. Nothing of it is in the result.
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS environment
WORKDIR /build
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt uv
COPY pyproject.toml ./
COPY scripts/install.sh scripts/
ARG TORCH_BACKEND=cpu
ENV VIRTUAL_ENV=/opt/venv UV_NO_CACHE=1
RUN python -m venv --without-pip /opt/venv && scripts/install.sh --requirements pyproject.toml
ARG EXTRAS=s3
RUN scripts/install.sh --requirements pyproject.toml $(echo "$EXTRAS" | sed -E 's/[^,]+/--extra &/g; s/,/ /g')
# Stages need neither the packages' own tests nor what is there for compiling C++ against them.
RUN cd /opt/venv/lib/python3*/site-packages \
    && find . -type d \( -name tests -o -path ./torch/test -o -path ./torch/include -o -path ./pyarrow/include -o -path ./torch/share \) \
        -prune -exec rm -rf {} + \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && rm -f /opt/venv/.lock

FROM ${BASE}
# Group 0 and not one of its own: clusters such as OpenShift run images with any user id, in group 0.
RUN useradd --uid 1000 --gid 0 inspo && install --directory --owner=inspo --group=0 --mode=0775 /home/inspo /inspo
COPY --from=environment /opt/venv /opt/venv
COPY pipelines /opt/inspo/pipelines
COPY components /opt/inspo/components
COPY inspo_core /opt/inspo/inspo_core
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/inspo
WORKDIR /inspo
COPY params.yaml ./
COPY experiments experiments
# A user id without a name in /etc/passwd has none of HOME and LOGNAME. PYTHONSAFEPATH: files in the working folder are not imported.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/inspo PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE \
    HOME=/home/inspo LOGNAME=inspo MPLCONFIGDIR=/tmp/matplotlib DVC_SITE_CACHE_DIR=/tmp/dvc GIT_PYTHON_REFRESH=quiet
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
