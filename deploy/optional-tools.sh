#!/bin/sh
# Fetches what no Python package brings, from Debian's packages, into .venv/bin. Single binaries are taken out of
# their packages: nothing is installed on the host, no service is started, no root is needed (only to renew apt's
# lists). Run again at will: what is there already is left alone.
set -eu
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive
bin="$PWD/.venv/bin"

# name, Debian package, path inside the package
tools='promtool prometheus usr/bin/promtool'

missing() {
  echo "$tools" | while read -r name package path; do
    [ -x "$bin/$name" ] || echo "$name $package $path"
  done
}

wanted=$(missing)
if [ -z "$wanted" ]; then
  echo "optional tools: all there"
  exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
  echo "optional tools: nothing done, this is no Debian; checks that need" \
    "$(echo "$wanted" | cut -d' ' -f1 | tr '\n' ' ')are skipped unless it is on the PATH"
  exit 0
fi

cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT INT TERM
if [ "$(id -u)" = 0 ]; then
  # apt downloads as its own user where it can write.
  chown _apt "$cache" 2>/dev/null || true
  apt-get -qq -o Acquire::Retries=3 update || echo "optional tools: apt's lists could not all be renewed; trying with what is there" >&2
fi
mkdir -p "$bin"
echo "$wanted" | while read -r name package path; do
  if ! (cd "$cache" && apt-get -qq -o Acquire::Retries=3 download "$package" </dev/null >&2); then
    echo "optional tools: $package could not be downloaded; run 'apt-get update' as root and try again" >&2
    exit 1
  fi
  dpkg-deb --fsys-tarfile "$cache/${package}"_*.deb | tar -xf - -C "$cache" "./$path"
  # Moved into place when whole, so that a run that was cut short leaves nothing half there.
  mv "$cache/$path" "$bin/$name.part"
  mv "$bin/$name.part" "$bin/$name"
  echo "optional tools: $name from Debian's $package is in .venv/bin"
done
