#!/bin/sh
# Fetches what no Python package brings, from Debian's packages, into .venv/bin. Single binaries are taken out of
# their packages: nothing is installed on the host, no service is started, no root is needed (only to renew apt's
# lists). Run again at will: what is there already is left alone.
set -eu
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive
bin="$PWD/.venv/bin"

# name, Debian package, path inside the package, packages with libraries that a small system may lack
tools='promtool prometheus usr/bin/promtool
pgbouncer pgbouncer usr/sbin/pgbouncer libc-ares2 libevent-2.1-7'

missing() {
  echo "$tools" | while read -r name package path libraries; do
    [ -x "$bin/$name" ] || echo "$name $package $path $libraries"
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
echo "$wanted" | while read -r name package path libraries; do
  for wanted_package in $package $libraries; do
    if ! (cd "$cache" && apt-get -qq -o Acquire::Retries=3 download "$wanted_package" </dev/null >&2); then
      echo "optional tools: $wanted_package could not be downloaded; run 'apt-get update' as root and try again" >&2
      exit 1
    fi
  done
  dpkg-deb --fsys-tarfile "$cache/${package}"_*.deb | tar -xf - -C "$cache" "./$path"
  if [ -n "$libraries" ]; then
    # The program finds these libraries through a line of shell; the system's own stay as they are.
    own="$PWD/.venv/optional/$name"
    mkdir -p "$own"
    for library in $libraries; do
      dpkg-deb --fsys-tarfile "$cache/${library}"_*.deb | tar -xf - -C "$cache"
    done
    find "$cache/usr/lib" "$cache/lib" -name '*.so*' -exec cp -P {} "$own/" \; 2>/dev/null || true
    mv "$cache/$path" "$own/$name"
    {
      echo '#!/bin/sh'
      echo "LD_LIBRARY_PATH='$own' exec '$own/$name' \"\$@\""
    } >"$cache/$name.whole"
    chmod 755 "$cache/$name.whole"
  else
    mv "$cache/$path" "$cache/$name.whole"
  fi
  # Moved into place when whole, so that a run that was cut short leaves nothing half there.
  mv "$cache/$name.whole" "$bin/$name.part"
  mv "$bin/$name.part" "$bin/$name"
  echo "optional tools: $name from Debian's $package is in .venv/bin"
done
