# Serval's three images. Build one by naming its target:
#
#   docker build --target operator  --tag serval-operator .
#   docker build --target server    --tag serval-server .
#   docker build --target converter --tag serval-converter .
#
# Build arguments
#   BASE        image with python3 3.11 and CA certificates; pin it by digest for a release
#   ENGINES     which requirements/<name>.txt bring what runs the models: tensorflow-cpu and onnx-cpu, or for NVIDIA
#               GPUs one of tensorflow-gpu and onnx-gpu; not both, as they need different versions of CUDA
#
# Behind a package mirror:   --secret id=pip,src=$HOME/.config/pip/pip.conf
# Without any network:       --build-context wheels=DIR, a folder of the wheels that the requirements name
#
# docs/images.md tells how large the images are and what was left out of them.

ARG BASE=python:3.11-slim-bookworm
ARG ENGINES="tensorflow-cpu onnx-cpu"

# wheels: a folder that pip may install from. Empty here; a build context of the same name takes its place.
FROM scratch AS wheels

# build: an empty virtual environment at the path where the images have it. The fixed hash seed makes byte
# code, and with it the layers, the same in every build.
FROM ${BASE} AS build
ENV PYTHONHASHSEED=0
RUN python3 -m venv --without-pip --symlinks /opt/serval
COPY requirements/install.sh requirements/trim.py /build/

# operator-packages: what the operator and the fetcher import.
FROM build AS operator-packages
COPY requirements/operator.txt /build/
RUN --mount=type=bind,from=wheels,target=/wheels --mount=type=secret,id=pip,target=/etc/pip.conf \
    sh /build/install.sh operator.txt

# engine-packages: TensorFlow and ONNX Runtime, and what they import. By far the largest layer, so it depends on
# its requirements and their checks alone: no change of our own code or of another dependency builds, pushes or
# pulls it again. TENSORFLOW is an argument of earlier releases; without a check it would be ignored.
FROM build AS engine-packages
ARG TENSORFLOW=
RUN test -z "${TENSORFLOW}" || { echo "TENSORFLOW is no build argument any more: use ENGINES=${TENSORFLOW}" >&2; exit 1; }
ARG ENGINES
COPY requirements/tensorflow-*.txt requirements/onnx-*.txt /build/
COPY requirements/check_tensorflow.py requirements/check_onnx.py /build/
RUN --mount=type=bind,from=wheels,target=/wheels --mount=type=secret,id=pip,target=/etc/pip.conf \
    sh /build/install.sh $(for engine in ${ENGINES}; do echo "${engine}.txt"; done) \
 && for engine in ${ENGINES}; do /opt/serval/bin/python3 "/build/check_${engine%-*}.py" || exit 1; done

# server-packages: what the model server imports beside its engines.
FROM build AS server-packages
COPY requirements/server.txt /build/
RUN --mount=type=bind,from=wheels,target=/wheels --mount=type=secret,id=pip,target=/etc/pip.conf \
    sh /build/install.sh server.txt

# converter-packages: what turns TensorFlow's models into ONNX, beside the engines. The check runs here, with the
# engines mounted, since only what is below /opt/serval goes on into the image.
FROM build AS converter-packages
COPY requirements/converter.txt /build/
RUN --mount=type=bind,from=wheels,target=/wheels --mount=type=secret,id=pip,target=/etc/pip.conf \
    sh /build/install.sh converter.txt
COPY requirements/check_converter.py /build/
RUN --mount=type=bind,from=engine-packages,source=/opt/serval/lib,target=/engines \
    PYTHONPATH=$(echo /engines/python3*/site-packages) PYTHONDONTWRITEBYTECODE=1 \
    /opt/serval/bin/python3 /build/check_converter.py

# code: our own packages, compiled.
FROM build AS code
COPY contract/serval_contract /opt/serval/app/serval_contract
COPY serving/serval_serving /opt/serval/app/serval_serving
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/serval/app

FROM code AS operator-code
COPY operator/serval_operator /opt/serval/app/serval_operator
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/serval/app/serval_operator

# python: what all images stand on. A user without rights, and the environment first on PATH.
# Byte code was compiled above, because the root file system is read-only at run time.
FROM ${BASE} AS python
RUN echo 'serval:x:65532:65532:serval:/tmp:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'serval:x:65532:' >> /etc/group
ENV PATH=/opt/serval/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/serval/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    LANG=C.UTF-8 \
    HOME=/tmp
WORKDIR /opt/serval

FROM python AS operator
COPY --from=operator-packages /opt/serval /opt/serval
COPY --from=operator-code /opt/serval/app /opt/serval/app
USER 65532:65532
ENTRYPOINT ["python3", "-m", "serval_operator"]

FROM python AS server
COPY --from=engine-packages /opt/serval /opt/serval
COPY --from=server-packages /opt/serval /opt/serval
COPY --from=code /opt/serval/app /opt/serval/app
USER 65532:65532
EXPOSE 8500 8501
ENTRYPOINT ["python3", "-m", "serval_serving.server"]

# converter: the server's image with the packages of a conversion, for Jobs, which name the stage to run. The
# order of the layers is that of the server's image, so that nodes and registries hold the large ones once.
FROM python AS converter
COPY --from=engine-packages /opt/serval /opt/serval
COPY --from=server-packages /opt/serval /opt/serval
COPY --from=converter-packages /opt/serval /opt/serval
COPY --from=code /opt/serval/app /opt/serval/app
USER 65532:65532
ENTRYPOINT ["python3"]
