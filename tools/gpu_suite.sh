#!/bin/sh
# Tests the cuda device on a machine that has a GPU, Python, NumPy and pytest, but no network and no compiler.
#
#     tools/gpu_suite.sh pack FOLDER    here, in a built tree: puts what the other machine lacks into FOLDER
#     tools/gpu_suite.sh run FOLDER     there, in a copy of the tree with FOLDER: runs the GPU's part of the suite
#     tools/gpu_suite.sh failures FOLDER
#                                       there: runs tests/fuzz/gpu_failures.py, more than a thousand failures
#     tools/gpu_suite.sh sanitize FOLDER [TOOL...]
#                                       there: runs a sample of the kernels' tests and a story under compute-sanitizer's
#                                       memcheck, racecheck, initcheck and synccheck, or those that are named
#
# Reports go to $OUT, or to FOLDER: report.txt, failures.txt and sanitize.txt. `run` ends within eight minutes, `failures`
# within two and a half, `sanitize` within two and a half per tool (SECONDS_PER_TOOL). PYTHON names the interpreter on
# either side; what stands behind FOLDER of `run` goes to pytest. The exit code is 1 if anything failed.
set -eu
cd "$(dirname "$0")/.."
programs='order dispatch buffers commands events indirect indirect_misuse misuse reflection fork gpu'
rooms='tests/kernels tests/core tests/models tests/generation'
command_buffers=100  # of the program gpu

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
    for each in $programs; do
        strip -o "$1/programs/$each" "$built/$each"
    done
    cp "$built/count_cuda.so" "$1"
    cp "$built/library.metallib/cuda.so" "$built/library.metallib/baseline.so" "$1/programs/library.metallib"
    cp tests/metal/library.cu "$1/programs/library.metallib/cuda"
    # The C library and the compiler's are the other machine's own.
    ldd pipeline/_core.abi3.so | awk '$3 ~ /^\// {print $3}' |
        grep -Ev '/(libc|libm|libstdc\+\+|libgcc_s|libpthread|libdl)\.so' | xargs -I{} cp -L {} "$1/libraries"
    (cd "$1" && tar -cJf libraries.tar.xz libraries && rm -r libraries)
    du -sh "$1"
}

install_pack() {
    (cd "$1" && tar -xJf libraries.tar.xz)
    for each in "$1"/libraries/*; do # the machine's own come first
        if ldconfig -p | grep -q "[[:space:]]$(basename "$each") "; then rm "$each"; fi
    done
    cp "$1/_core.abi3.so" pipeline/
    rm -rf pipeline/onebuf.metallib
    cp -r "$1/onebuf.metallib" pipeline/
    LD_LIBRARY_PATH=$PWD/$1/libraries
    OB_ISAS=cuda PYTHONPATH=$PWD COUNT_CUDA_LIBRARY=$PWD/$1/count_cuda.so
    export LD_LIBRARY_PATH OB_ISAS PYTHONPATH COUNT_CUDA_LIBRARY
    OB_NVRTC=$("$python" -c 'import os; from pipeline.device import resources as r; r.name_gpu_compiler(); print(os.environ.get("OB_NVRTC", ""))')
    export OB_NVRTC
}

# Prints what fails; adds "metal/NAME PASSED FAILED SKIPPED" to the file $2.
run_program() {
    name=$(basename "$1") status=0 more=
    [ "$name" != gpu ] || more=$command_buffers
    printed=$(timeout 60 "$1" "$folder/programs/library.metallib" /tmp cuda:0 ${more:+"$more"} 2>&1) || status=$?
    failed=$(printf '%s\n' "$printed" | grep -c '^FAILED') || true
    [ "$name" != gpu ] || [ "${printed##*good }" = "$command_buffers, left 0" ] || failed=1
    [ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
    [ "$failed" -eq 0 ] || printf '== %s ended with %s\n%s\n' "$name" "$status" "$printed" | grep -v '^ok '
    echo "metal/$name $(printf '%s\n' "$printed" | grep -Ec '^(ok|good) ') $failed 0" >>"$2"
}

# "tests/ROOM PASSED FAILED SKIPPED" for each room, of pytest's XML.
count_tests() {
    "$python" - "$1" <<'END'
import collections, sys, xml.etree.ElementTree as tree
counts = collections.defaultdict(lambda: [0, 0, 0])
for case in tree.parse(sys.argv[1]).iter("testcase"):
    found = {each.tag for each in case}
    kind = 1 if found & {"failure", "error"} else 2 if "skipped" in found else 0
    counts["/".join((case.get("classname") or case.get("name")).split(".")[:2])][kind] += 1
for room, numbers in sorted(counts.items()):
    print(room, *numbers)
END
}

run() {
    python=${PYTHON:-python3} folder=$1 out=${OUT:-$1}
    shift
    install_pack "$folder"
    : >"$out/counts"
    {
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
        "$python" -m pipeline.run --device list
        for each in $programs; do run_program "$folder/programs/$each" "$out/counts"; done
        # shellcheck disable=SC2086  # the rooms are words
        timeout 390 "$python" -m pytest -q -n 12 -p no:cacheprovider -k cuda --junitxml="$out/tests.xml" "$@" $rooms 2>&1 ||
            echo "pytest ended with $?"
        count_tests "$out/tests.xml" >>"$out/counts" || echo 'tests/unfinished 0 1 0' >>"$out/counts"
        awk 'BEGIN { printf "\n%-24s %8s %8s %8s\n", "part", "passed", "failed", "skipped" }
            { printf "%-24s %8d %8d %8d\n", $1, $2, $3, $4; p += $2; f += $3; s += $4 }
            END { printf "%-24s %8d %8d %8d\n", "all", p, f, s }' "$out/counts"
    } >"$out/report.txt" 2>&1
    tail -80 "$out/report.txt"
    awk '{ failed += $3 } END { exit failed > 0 }' "$out/counts"
}

failures() {
    python=${PYTHON:-python3} folder=$1 out=${OUT:-$1}
    install_pack "$folder"
    status=0
    timeout 150 "$python" tests/fuzz/gpu_failures.py "$folder/programs/library.metallib" --counting "$folder/count_cuda.so" \
        >"$out/failures.txt" 2>&1 || status=$?
    cat "$out/failures.txt"
    [ "$status" -eq 0 ] || { echo "ended with $status"; exit 1; }
}

# Where compute-sanitizer is: on the path, or where the toolkit puts it.
sanitizer() {
    command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || {
        echo 'gpu_suite.sh: compute-sanitizer is not there: put it on the PATH' >&2
        exit 2
    }
}

# Under tool $1, the program that stands behind $2, a name for its files in $made.
watched() {
    tool=$1 name=$2
    shift 2
    status=0 more=
    [ "$tool" != memcheck ] || more='--report-api-errors no' # what the driver refuses has tests of its own
    # shellcheck disable=SC2086  # two words or none
    timeout "$seconds" "$sanitizer" --tool "$tool" $more --log-file "$made/$tool-$name.log" "$@" \
        >"$made/$tool-$name.out" 2>&1 </dev/null || status=$?
    echo "$name $status" >>"$made/$tool.ended"
}

# "errors TOOL NUMBER": the errors of a tool's logs, of hazards those that are no errors too, and processes without a log.
count_errors() {
    awk -v tool="$1" -v processes="$2" '/(ERROR|RACECHECK) SUMMARY:/ { ended++; errors += $4 }
        END { printf "%-10s %3d processes, %d without a summary, %d errors\n", tool, processes, processes - ended, errors
              exit errors > 0 || ended != processes }' /dev/null "$made/$1"-*.log
}

# A sample of tests of all kernels that are compiled ahead, a part per process, and a story.
sanitize_with() {
    tool=$1 number=0
    OB_CUDA_DRIVER=$COUNT_CUDA_LIBRARY COUNT_CUDA_KERNELS=$made/$tool.kernels OB_CUDA_DEADLINE=1000
    export OB_CUDA_DRIVER COUNT_CUDA_KERNELS OB_CUDA_DEADLINE
    : >"$made/$tool.kernels"
    watched "$tool" story "$python" -m pipeline.run --device cuda --temperature 0 --max-tokens 16 --prompt 'Once upon a time,' &
    while [ "$number" -lt "$processes" ]; do
        awk -v n="$number" -v of="$processes" 'NR % of == n' tests/data/gpu_sample.txt >"$made/part-$number"
        set --
        while read -r test; do set -- "$@" "$test"; done <"$made/part-$number"
        [ $# -eq 0 ] || watched "$tool" "$number" "$python" -m pytest -q -p no:cacheprovider -p no:xdist -p support.sampled "$@" &
        number=$((number + 1))
    done
    wait
    unset OB_CUDA_DRIVER COUNT_CUDA_KERNELS OB_CUDA_DEADLINE
    sed 's/^metal_//' "$made/$tool.kernels" | sort -u -o "$made/$tool.kernels" # of the names in machine code
    ended=$(wc -l <"$made/$tool.ended")
    count_errors "$tool" "$ended" || echo "$tool" >>"$made/wrong"
    if grep -v ' 0$' "$made/$tool.ended"; then
        echo "$tool: those did not pass" | tee -a "$made/wrong"
        grep -hE '^(FAILED|ERROR|E  )|[Ee]rror:' "$made/$tool"-*.out | head -20 || true
    fi
    grep -hE '^========= (Error|Warning|Invalid|Uninit|Race|Barrier|Program hit)' "$made/$tool"-*.log | sort | uniq -c |
        sort -rn | head -20 || true
    "$python" -c 'import sys; sys.path.insert(0, "tools"); import cuda_kernels; print(*cuda_kernels.HOT, sep="\n")' |
        sort -u | comm -23 - "$made/$tool.kernels" >"$made/$tool.unseen"
    echo "$tool: $(wc -l <"$made/$tool.kernels") kernels seen, $(wc -l <"$made/$tool.unseen") of those compiled ahead unseen"
    [ ! -s "$made/$tool.unseen" ] || tee -a "$made/wrong" <"$made/$tool.unseen"
}

sanitize() {
    python=${PYTHON:-python3} folder=$1 out=${OUT:-$1} processes=${PROCESSES:-13} seconds=${SECONDS_PER_TOOL:-150}
    shift
    sanitizer=$(sanitizer)
    install_pack "$folder"
    PYTHONPATH=$PYTHONPATH:$PWD/tests
    export PYTHONPATH
    [ $# -gt 0 ] || set -- memcheck racecheck initcheck synccheck
    made=$(mktemp -d)
    {
        for each in "$@"; do
            began=$(date +%s)
            sanitize_with "$each"
            echo "$each: $(($(date +%s) - began)) s"
        done
        echo "kernels seen:" && cat "$made"/*.kernels | sort -u | tr '\n' ' ' && echo
    } 2>&1 | tee "$out/sanitize.txt"
    (cd "$made" && tar -czf "$out/sanitize.tar.gz" ./*)
    failed=0
    [ ! -s "$made/wrong" ] || failed=1
    rm -r "$made"
    exit "$failed"
}

case ${1:-}:${2:-} in
pack:?*) pack "$2" ;;
run:?*) shift && run "$@" ;;
failures:?*) failures "$2" ;;
sanitize:?*) shift && sanitize "$@" ;;
*)
    echo 'usage: tools/gpu_suite.sh pack|run|failures|sanitize FOLDER' >&2
    exit 2
    ;;
esac
