#!/bin/sh
# Hashes, no download addresses: what is installed is what was looked at, from whichever index the reader trusts.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet --upgrade pyproject.toml "$@"; }
compile --extra embedded --group build -o requirements/run.txt
compile --extra embedded --group build --group test --group check -c requirements/run.txt -o requirements/dev.txt
compile -c requirements/run.txt -o requirements/service.txt
