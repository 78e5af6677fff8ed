#!/bin/sh
# Tests Onebuf for arm64 on an x86-64 machine with Debian: builds it with a cross compiler, and runs it under qemu.
#
#     tools/aarch64_suite.sh FOLDER [TEST FILES]              here, in a source tree; PYTHON has Cython
#     DEVICE=checker tools/aarch64_suite.sh FOLDER [TEST FILES]
#
# FOLDER gets compilers, qemu and an arm64 system from Debian's packages, and NumPy and others from PyPI. Nothing is
# installed, and a second run uses what is there. Without files, a sample of the kernel tests runs, on the device cpu, or
# a sample of the checker's own tests. PYTEST_ARGS are handed on. QEMU names another qemu-aarch64: the checker's address
# space takes versions before 8 many gigabytes of memory, and loops that it lets run for 2^31 turns take them minutes.
set -eu
cd "$(dirname "$0")/.."
tree=$PWD python=${PYTHON:-.venv/bin/python}
python=$(cd "$(dirname "$(command -v "$python")")" && pwd)/$(basename "$python")
mkdir -p "$1"
folder=$(cd "$1" && pwd) root=$(cd "$1" && pwd)/root
shift
device=${DEVICE:-cpu}
if [ "$device" = checker ]; then
    isas="'generic', 'checker'" chosen=checker
    [ $# -gt 0 ] || set -- tests/msl/test_checker.py tests/msl/test_checker_simd.py tests/msl/test_checker_loops.py \
        tests/msl/test_checker_unwritten.py tests/msl/test_checker_advice.py norm sampling
else
    isas="'generic'," chosen='not checker and not cuda'
    [ $# -gt 0 ] || set -- norm layer_norm routing sampling formats linear recurrent experts attention
fi
gcc=12
foreign='python3.11 gobjc-12 g++-12'
here="qemu-user-static gcc-$gcc-aarch64-linux-gnu gobjc-$gcc-aarch64-linux-gnu g++-$gcc-aarch64-linux-gnu
    cpp-$gcc-aarch64-linux-gnu binutils-aarch64-linux-gnu"
wheels='numpy tokenizers ml_dtypes hypothesis'

unpack() { # packages into a folder
    for each in "$1"/*.deb; do dpkg -x "$each" "$2"; done
}
fetch() {
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$folder/debs" "$root" "$folder/cross"
    : > "$folder/status"
    cat > "$folder/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
Dir::State::Lists "$folder/lists";
Dir::State::status "$folder/status";
Dir::Cache "$folder/cache";
APT::Sandbox::User "root";
END
    APT_CONFIG=$folder/apt.conf apt-get -qq update
    # shellcheck disable=SC2086  # lists of packages
    APT_CONFIG=$folder/apt.conf apt-get -qq install -y --no-install-recommends --download-only $foreign
    # shellcheck disable=SC2086
    (cd "$folder/debs" && apt-get -qq download $here)
    unpack "$folder/cache/archives" "$root"
    unpack "$folder/debs" "$folder/cross"
    # shellcheck disable=SC2086
    "$python" -m pip download -q --no-deps --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 \
        --python-version 3.11 --only-binary :all: -d "$folder/wheels" $wheels
    for each in "$folder"/wheels/*.whl; do unzip -q -o "$each" -d "$folder/site"; done
    "$python" -m pip install -q --target "$folder/site" --no-deps jinja2 markupsafe rich pygments markdown-it-py mdurl \
        pytest pluggy iniconfig packaging sortedcontainers
    touch "$folder/fetched"
}
compiler() { # NAME PROGRAM: a cross compiler that knows the arm64 system
    lib=$root/usr/lib/gcc/aarch64-linux-gnu/$gcc
    mkdir -p "$folder/gcc"
    for each in "$lib"/*.o "$lib"/*.a "$lib"/libgcc_s.so "$lib"/libstdc++.so "$lib"/libobjc.so; do
        ln -sf "$each" "$folder/gcc"
    done
    cat > "$folder/$1" <<END
#!/bin/sh
LD_LIBRARY_PATH=$folder/cross/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH
exec $folder/cross/usr/bin/aarch64-linux-gnu-$2-$gcc --sysroot=$root -B$folder/cross/usr/aarch64-linux-gnu/bin/ \\
    -B$folder/cross/usr/bin/aarch64-linux-gnu- -B$folder/gcc/ $3 -isystem $lib/include \\
    -isystem $root/usr/include/aarch64-linux-gnu -L$folder/gcc -L$root/usr/lib/aarch64-linux-gnu "\$@"
END
    chmod +x "$folder/$1"
}

[ -e "$folder/fetched" ] || fetch
compiler cc gcc ''
compiler cxx g++ "-isystem $root/usr/include/c++/$gcc -isystem $root/usr/include/aarch64-linux-gnu/c++/$gcc"
# What runs under qemu starts these by themselves: the machine's own programs, which make and read code for arm64.
mkdir -p "$folder/bin"
cat > "$folder/bin/metalc" <<END
#!/bin/sh
CXX=$folder/cxx
export CXX
exec "$python" -I -c 'import sys; sys.path.insert(0, "$folder/tree"); from pipeline.metalc import target
target.choose(target.Target("linux", "aarch64"))
from pipeline.metalc.__main__ import main; sys.exit(main())' "\$@"
END
cat > "$folder/bin/addr2line" <<END
#!/bin/sh
LD_LIBRARY_PATH=$folder/cross/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH
exec $folder/cross/usr/bin/aarch64-linux-gnu-addr2line "\$@"
END
chmod +x "$folder/bin/metalc" "$folder/bin/addr2line"
CC=$folder/cc CXX=$folder/cxx "$python" - "$folder" <<END
import sys
from pathlib import Path

sys.path[:0] = ["tools", "."]
import builder
import objects

from pipeline.metalc import target

target.choose(target.Target("linux", "aarch64"))
folder = Path(sys.argv[1]) / "tree" / "pipeline"
with builder.only_build():
    core = builder.build(builder.Parts(($isas), ()), folder / builder.LIBRARY, with_core=True)
objects.install(core, folder / core.name)
END
git ls-files -z | tar --null -T - -c | tar -x -C "$folder/tree"

emulated() {
    PATH="$folder/bin:$PATH" OB_METALC=$folder/bin/metalc OB_CACHE=$folder/shaders CXX=$folder/cxx \
        "${QEMU:-$folder/cross/usr/bin/qemu-aarch64-static}" -L "$root" \
        -E "PYTHONPATH=$folder/tree:$folder/tree/tests:$folder/site" "$root/usr/bin/python3.11" "$@"
}
cd "$folder/tree"
emulated -m pipeline.run --device cpu --temperature 0 --max-tokens 8 "Once upon a time"
failed=0
for each in "$@"; do
    file=tests/kernels/test_$each.py
    [ -e "$file" ] || file=$each
    case $file in tests/msl/*) only='not cuda' ;; *) only=$chosen ;; esac
    # shellcheck disable=SC2086  # words
    emulated -m pytest -q -p no:cacheprovider -k "$only" "$file" ${PYTEST_ARGS:-} || failed=1
done
cd "$tree"
exit $failed
