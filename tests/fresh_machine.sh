#!/usr/bin/env bash
# The README's two commands as on a machine that has nothing else: a clone of the last commit, a new HOME with its caches,
# a new environment, no folder of data, and a hub that does not answer. Prints the minutes that each stage took.
#
#   tests/fresh_machine.sh                both commands
#   tests/fresh_machine.sh reports        one of them
#   KEEP=yes tests/fresh_machine.sh       leave the folder, to look at the pages
#
# Package indexes and their proxies stay as they are set on this machine; PIP_CACHE_DIR, where it is set, is used.
set -euo pipefail
cd "$(dirname "$0")/.."
commands=${*:-reports test}

new=$(mktemp -d)
git clone --quiet . "$new/clone"
git diff --quiet HEAD || echo "what is not committed is left out: this tries $(git rev-parse --short HEAD)"

unset MAKEFLAGS MFLAGS MAKELEVEL PYTHONPATH VIRTUAL_ENV
unset "${!MRL_LAB_@}" "${!XDG_@}" "${!HF_@}" "${!JUPYTER_@}" "${!IPYTHON@}" PLAYWRIGHT_BROWSERS_PATH
export HOME=$new/home HF_ENDPOINT=http://127.0.0.1:9
mkdir "$HOME"
cd "$new/clone"

minutes=()
stage() {
  local name=$1 began=$SECONDS
  shift
  printf '\n=== %s\n' "$name"
  "$@"
  minutes+=("$(awk -v name="$name" -v s=$((SECONDS - began)) 'BEGIN { printf "%-14s %5.1f min", name, s / 60 }')")
}

report() {
  local status=$?
  printf '\n=== a fresh machine: commit %s, %s cores, %s\n' "$(git rev-parse --short HEAD)" "$(getconf _NPROCESSORS_ONLN)" "$(uname -srm)"
  printf '%s\n' ${minutes[@]+"${minutes[@]}"}
  if [ $status -ne 0 ]; then echo "the stage after these failed"; fi
  if [ -n "${KEEP:-}" ]; then echo "kept: $new"; else rm -rf "$new"; fi
}
trap report EXIT

stage install make .venv/.ready
for command in $commands; do stage "make $command" make "$command"; done
