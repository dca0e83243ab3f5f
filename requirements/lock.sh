#!/bin/sh
# Hashes, no download addresses: what is installed is what was looked at, from whichever index the reader trusts.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet --upgrade "$@"; }
compile pyproject.toml --extra embedded --group build -o requirements/run.txt
compile pyproject.toml --extra embedded --group build --group test --group check -c requirements/run.txt -o requirements/dev.txt
compile pyproject.toml -c requirements/run.txt -o requirements/service.txt
compile --group build -c requirements/run.txt -o requirements/build.txt
