#!/bin/sh
# Install what is locked into a virtual environment: sh workflow/install.sh VENV [EXTRA...]
#
# Without extras (pyproject.toml has their names) it is what a run of the demo needs. TORCH=cpu takes
# PyTorch from its index of wheels for CPUs, which are a tenth of the size; their hashes are not in
# requirements.lock.
set -eu
venv=$1
shift
TORCH=${TORCH:-}

# What installs and builds the others comes first, with hashes, too: a few packages are source
# archives, whose build would otherwise fetch whatever setuptools is there.
awk '/^[^ #]/ { wanted = /^(uv|setuptools)==/ } wanted' requirements.lock > "$venv/first.lock"
"$venv/bin/python" -m pip install --quiet --require-hashes --requirement "$venv/first.lock"

# Which of the locked packages these extras need; no answer, where pip alone knows the index.
resolve() {
    extras=
    for extra in setup "$@"; do extras="$extras --extra $extra"; done
    "$venv/bin/uv" pip compile pyproject.toml $extras --constraint requirements.lock --quiet \
        --python "$venv/bin/python" --no-annotate --no-header ${TORCH:+--torch-backend "$TORCH"}
}
if resolve "$@" > "$venv/needed.txt"; then
    :
elif [ -n "$TORCH" ] && TORCH='' && resolve "$@" > "$venv/needed.txt"; then
    echo "PyTorch's index of wheels for CPUs does not answer: the locked wheels are taken"
else
    sed -n 's/ .*//; /==/p' requirements.lock > "$venv/needed.txt"
fi
awk -F '==' -v torch="$TORCH" '
    FNR == NR { needed[$1] = !(torch && ($1 == "torch" || $1 == "torchvision")); next }
    /^[^ #]/ { wanted = needed[$1] } wanted
' "$venv/needed.txt" requirements.lock > "$venv/needed.lock"

if [ -n "$TORCH" ]; then
    VIRTUAL_ENV=$venv "$venv/bin/uv" pip install --torch-backend "$TORCH" --no-deps \
        $(grep -E '^(torch|torchvision)==' "$venv/needed.txt") # without a locked hash
fi
locked="--require-hashes --no-build-isolation --no-deps --requirement $venv/needed.lock"
VIRTUAL_ENV=$venv "$venv/bin/uv" pip install $locked || "$venv/bin/python" -m pip install $locked
