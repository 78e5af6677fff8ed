#!/bin/sh
# usage: tools/setup.sh run|test|wheel
# Makes this checkout ready to run, or to run its tests too: system packages, .venv, Python
# packages, the compiled core and shaders. Costs a fraction of a second when nothing changed.
# Shaders are compiled as soon as there is a C++ compiler; meanwhile the builder calls this script again,
# with `system` and with `python`, for what the core needs.
# Everything it says goes to standard error. PYTHON names the interpreter to build .venv from.
set -eu
cd "$(dirname "$0")/.."
exec 1>&2
goal=${1:-run}
step=${2:-all} # system and python are for the builder
venv=.venv/bin/python

say() { echo "onebuf: $*"; }
die() { say "$*"; exit 1; }

# ---- what was done before: stamps hold a checksum of everything that a step depends on

sources() {
    find objc pyx shaders tools pipeline/metalc pipeline/include setup.py pyproject.toml -type f \
        ! -name '*.py[co]' | LC_ALL=C sort | xargs cksum
}
environment() {
    pwd; uname -sm; cat .venv/pyvenv.cfg
    echo "${CC-} ${CXX-} ${CFLAGS-} ${LDFLAGS-}"
}
packages_key() { { environment; cksum pyproject.toml setup.py; } 2>&1 | cksum; }
processor() { # what decides for which instruction sets a build is
    echo "${OB_ISAS-}"; grep -m 1 '^flags' /proc/cpuinfo 2>/dev/null | grep -o -w -e avx2 -e 'avx512[a-z_0-9]*' -e 'amx[a-z_0-9]*' || :
}
build_key() { { environment; processor; sources; } 2>&1 | cksum; }

stamped() { [ -f ".venv/$1.stamp" ] && [ "$(cat ".venv/$1.stamp")" = "$2" ]; }
stamp() { echo "$2" > ".venv/$1.stamp"; }

have_packages() { # those for the tests hold those for a run
    key=$(packages_key)
    stamped packages-test "$key" || { [ "$goal" = run ] && stamped packages-run "$key"; }
}
have_build() {
    [ -f pipeline/_core.abi3.so ] && { [ -e pipeline/onebuf.metallib ] || [ "$(uname)" = Darwin ]; } || return 1
    key=$(build_key)
    stamped build-test "$key" || { [ "$goal" = run ] && stamped build-run "$key"; }
}

# ---- the system's packages

apt() { # with root's rights, quietly: what apt says is shown only when it fails
    # shellcheck disable=SC2086  # sudo -n is two words
    said=$($as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 \
        -o Dpkg::Use-Pty=0 "$@" 2>&1 </dev/null) || { echo "$said" | tail -n 20; return 1; }
}
may_install() { # asks for root's rights at most once
    command -v apt-get >/dev/null || die "install with this system's package manager: $*"
    as_root=
    if [ "$(id -u)" != 0 ]; then
        as_root="sudo -n" # without a terminal nobody can type a password
        [ ! -t 0 ] || { as_root=sudo; [ "${asked-}" ] || say "asking sudo for: apt-get install $*"; }
        $as_root true 2>/dev/null || die "run this as root first: apt-get install $*"
    fi
    export asked=yes
}
apt_install() {
    may_install "$@"
    say "installing with apt-get: $*"
    [ "${updated-}" ] || apt update || say "apt-get update failed; going on with the lists that are there"
    export updated=yes
    apt install -y --no-install-recommends "$@" || die "could not install: apt-get install $*"
}

# ---- Python 3.11 or newer, with venv, pip and Python.h

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
has_headers() {
    "$1" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))' 2>/dev/null
}
from_system() { "$1" -c 'import sys; sys.exit(sys.base_prefix != "/usr")'; }

# Sets python, and needed to the packages that it lacks.
find_python() {
    names=${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}
    needed=
    for python in $names; do
        if new_enough "$python" && has_venv "$python" && has_headers "$python"; then return; fi
    done
    for python in $names; do
        if new_enough "$python" && from_system "$python"; then
            version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
            needed="python$version-venv libpython$version-dev"
            return
        fi
    done
    [ -z "${PYTHON-}" ] || die "PYTHON=$PYTHON is not a Python 3.11 or newer with venv and Python.h"
    [ "$(uname)" != Darwin ] || die "no Python 3.11 or newer: brew install python"
    new_python
}
new_python() {
    may_install python3 python3-venv python3-dev gobjc g++
    apt update || say "apt-get update failed; going on with the lists that are there"
    for version in 3.13 3.12 3.11 3.14; do
        if apt-cache show "python$version-venv" >/dev/null 2>&1; then
            apt_install "python$version" "python$version-venv" "libpython$version-dev"
            python=python$version
            return
        fi
    done
    die "no Python 3.11 or newer: install one and name it with PYTHON="
}

# ---- the steps

# Sets python, now to what shaders need to be compiled, and later to what else the core needs.
find_needed() {
    if [ "$(uname)" = Darwin ]; then
        xcode-select -p >/dev/null 2>&1 ||
            die "the Xcode command line tools are absent: run xcode-select --install"
    fi
    needed=
    python=$venv
    usable_venv || find_python
    [ "$(uname)" = Darwin ] || needed="$needed $("$python" tools/toolchain.py)"
    # shellcheck disable=SC2086  # a list of packages
    needed=$(printf '%s\n' $needed | sort -u)
    now=$(echo "$needed" | grep -e '^g++$' -e '-venv$' || :)
    later=$(echo "$needed" | grep -v -e '^g++$' -e '-venv$' || :)
}
# shellcheck disable=SC2086  # lists of packages
install_now() {
    [ -z "$needed" ] || may_install $needed
    [ -z "$now" ] || apt_install $now
    export python
}
# shellcheck disable=SC2086
install_later() {
    later=$("$python" tools/toolchain.py)
    [ -z "$later" ] || apt_install $later
}

usable_venv() {
    [ -x $venv ] && new_enough $venv && has_headers $venv && $venv -m pip --version >/dev/null 2>&1
}

make_venv() {
    [ "$python" != $venv ] || return 0
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
}

pip() { $venv -m pip --disable-pip-version-check install -qq --no-compile "$@" || die "pip could not install"; }

install_packages() {
    say "installing Python packages into .venv"
    $venv -c '
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    data = tomllib.load(file)
project = data["project"]
needed = data["build-system"]["requires"] + project["dependencies"]
if sys.argv[1] == "test":
    needed += project["optional-dependencies"]["test"]
print("\n".join(needed))' "$goal" > .venv/requirements.txt
    pip -r .venv/requirements.txt
}

build() { # "$@": --prepare and this script, when packages are missing
    say "building what a $goal needs on this processor"
    "$python" tools/builder.py "$goal" --python "$PWD/$venv" "$@"
    stamp "build-$goal" "$(build_key)"
}

set_up() {
    if [ -x $venv ] && have_packages && have_build; then return; fi
    find_needed
    install_now
    if [ "$python" = $venv ] && have_packages && [ -z "$later" ]; then
        build
        return
    fi
    build --prepare "tools/setup.sh $goal"
    pip --no-deps --no-build-isolation -e .
    stamp "packages-$goal" "$(packages_key)"
}

install_wheel_tools() {
    $venv -c 'import auditwheel' 2>/dev/null || {
        $venv -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    print("\n".join(tomllib.load(file)["project"]["optional-dependencies"]["wheel"]))' > .venv/requirements.txt
        pip -r .venv/requirements.txt
    }
}

case $goal-$step in
wheel-all) goal=run; set_up; install_wheel_tools ;;
run-all | test-all) set_up ;;
*-system) install_later ;;
*-python) make_venv; have_packages || install_packages ;;
*) die "usage: tools/setup.sh run|test|wheel" ;;
esac
