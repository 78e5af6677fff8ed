#!/bin/sh
# Tests the cuda device on a machine that has a GPU, Python, NumPy and pytest, but no network and no GNUstep.
#
#     tools/gpu_suite.sh pack FOLDER    here, in a built tree: puts what the other machine lacks into FOLDER
#     tools/gpu_suite.sh run FOLDER     there, in a copy of the tree with FOLDER: runs the GPU's part of the suite
#
# `run` writes the report to $OUT/report.txt, or to FOLDER/report.txt, and ends within eight minutes. PYTHON names the
# interpreter on either side; what stands behind FOLDER goes to pytest.
set -eu
cd "$(dirname "$0")/.."

pack() {
    python=${PYTHON:-.venv/bin/python}
    rm -rf "$1"
    mkdir -p "$1/libraries" "$1/programs/library.metallib/cuda" "$1/onebuf.metallib/native"
    "$python" tools/builder.py cuda
    cp -r pipeline/onebuf.metallib/cuda pipeline/onebuf.metallib/cuda.so "$1/onebuf.metallib"
    PYTHONPATH=tests "$python" -c 'from support import metal_harness as h; h.build(h.VARIANTS["plain"])'
    for each in avx2 avx512 native/avx2 native/avx512 native/vnni native/amx; do
        [ ! -e "pipeline/onebuf.metallib/$each.so" ] || cp "pipeline/onebuf.metallib/$each.so" "$1/onebuf.metallib/$each.so"
    done
    cp pipeline/_core.abi3.so "$1"
    built=build/tests/metal/plain
    for each in order dispatch buffers commands events indirect misuse reflection; do
        strip -o "$1/programs/$each" "$built/$each"
    done
    cp "$built/library.metallib/cuda.so" "$1/programs/library.metallib"
    cp tests/metal/library.cu "$1/programs/library.metallib/cuda"
    # The C library and the compiler's are the other machine's own.
    ldd pipeline/_core.abi3.so | awk '$3 ~ /^\// {print $3}' |
        grep -Ev '/(libc|libm|libstdc\+\+|libgcc_s|libpthread|libdl)\.so' | xargs -I{} cp -L {} "$1/libraries"
    (cd "$1" && tar -cJf libraries.tar.xz libraries && rm -r libraries)
    du -sh "$1"
}

run() {
    python=${PYTHON:-python3} folder=$1 report=${OUT:-$1}/report.txt
    shift
    (cd "$folder" && tar -xJf libraries.tar.xz)
    for each in "$folder"/libraries/*; do  # the machine's own come first
        if ldconfig -p | grep -q "[[:space:]]$(basename "$each") "; then rm "$each"; fi
    done
    cp "$folder/_core.abi3.so" pipeline/
    rm -rf pipeline/onebuf.metallib
    cp -r "$folder/onebuf.metallib" pipeline/
    LD_LIBRARY_PATH=$PWD/$folder/libraries
    OB_ISAS=cuda
    OB_NVRTC=$("$python" -c 'import os; from pipeline.device import resources as r; r.name_gpu_compiler(); print(os.environ.get("OB_NVRTC", ""))')
    PYTHONPATH=$PWD
    export LD_LIBRARY_PATH OB_ISAS OB_NVRTC PYTHONPATH
    {
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
        for program in "$folder"/programs/*; do
            [ -x "$program" ] && [ ! -d "$program" ] || continue
            echo "== $(basename "$program")"
            timeout 60 "$program" "$folder/programs/library.metallib" /tmp cuda:0 2>&1 | grep -v '^ok ' || true
        done
        echo "== pytest"
        timeout 420 "$python" -m pytest -q -n 12 -p no:cacheprovider -k cuda "$@" tests/kernels 2>&1 || true
    } >"$report" 2>&1
    tail -60 "$report"
}

case ${1:-}:${2:-} in
pack:?*) pack "$2" ;;
run:?*) shift && run "$@" ;;
*)
    echo 'usage: tools/gpu_suite.sh pack|run FOLDER' >&2
    exit 2
    ;;
esac
