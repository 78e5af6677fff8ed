# The checker for Metal shaders, for CI of other projects:
#   docker build -t onebuf-check . && docker run --rm -v "$PWD:/src" onebuf-check --cases shaders/sum.metal
# docs/checking-in-projects.md describes it. It runs no models: only the core is built, in half a minute.
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
    g++ gobjc python3-dev python3-venv
COPY . /onebuf
RUN python3 -m venv /opt/onebuf \
    && OB_ISAS=none /opt/onebuf/bin/pip install --no-cache-dir "/onebuf[check]" "pytest>=8"

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
    g++ libobjc4 python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/onebuf /opt/onebuf
ENV PATH=/opt/onebuf/bin:$PATH
WORKDIR /src
ENTRYPOINT ["onebuf", "check"]
