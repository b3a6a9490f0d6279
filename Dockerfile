# rhm in a container, for CPUs:
#     docker build -t rhm .
# and for NVIDIA GPUs, with the build of PyTorch on PyPI:
#     docker build -t rhm-cuda --build-arg TORCH_INDEX= .
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheels

FROM python:${PYTHON}-slim
# The wheels of rasterio and pyogrio take this library from the system.
RUN apt-get update && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[onnx,openvino,stac]" && rhm doctor
# Results belong to the user who runs the container: docker run --user "$(id -u):$(id -g)"
ENV HOME=/tmp
WORKDIR /data
ENTRYPOINT ["rhm"]
