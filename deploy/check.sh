#!/bin/sh
# Every check that is no test, one line each; the output of those that fail. All run, even after a failure.
#   sh deploy/check.sh            all of them (what `make check` calls, with .venv/bin first on the PATH)
#   sh deploy/check.sh NAME...    only these
# A tool that is not there fails its check when CI=true and skips it elsewhere, with the reason.
set -u
cd "$(dirname "$0")/.." || exit 1

ALL="format lint types imports dependencies security spelling migrations dockerfile shell yaml kubernetes \
dashboards alerts hosts paths"
failed=0

# check NAME TOOL COMMAND...: runs the command when the tool is there and prints the check's one line.
check() {
  name=$1
  tool=$2
  shift 2
  if ! command -v "$tool" >/dev/null 2>&1; then
    if [ "${CI:-}" = true ]; then
      printf 'FAILED  %s: %s is not installed (make optional-tools, make test)\n' "$name" "$tool"
      failed=$((failed + 1))
    else
      printf 'skipped %s: %s is not installed (make optional-tools)\n' "$name" "$tool"
    fi
    return
  fi
  if output=$("$@" 2>&1 </dev/null); then
    printf 'ok      %s\n' "$name"
  else
    printf 'FAILED  %s: %s\n' "$name" "$*"
    printf '%s\n' "$output" | sed 's/^/        /'
    failed=$((failed + 1))
  fi
}

# The project's own text files, one path a line.
own_files() {
  find . \( -name .git -o -name .venv -o -name '.*_cache' -o -name .hypothesis -o -name __pycache__ \
    -o -name build -o -name dist \) -prune -o -type f -name "${1:-*}" -print
}

shell_scripts() {
  own_files '*.sh'
  own_files run | grep '/\.ci/run$'
}

kubernetes_manifests() {
  # What kustomize alone reads is no Kubernetes resource.
  own_files '*.yaml' | grep '/deploy/kubernetes/' | grep -v '/kustomization\.yaml$'
}

check_spelling() {
  # Tests misspell on purpose.
  # shellcheck disable=SC2046 # our own file names hold no spaces
  codespell $(own_files | grep -v '^\./tests/')
}

lint_shell() {
  # shellcheck disable=SC2046 # our own file names hold no spaces
  shellcheck $(shell_scripts)
}

validate_kubernetes() {
  # shellcheck disable=SC2046 # our own file names hold no spaces
  kubernetes-validate --strict $(kubernetes_manifests)
}

parse_dashboards() {
  for dashboard in deploy/grafana/*.json; do
    python -m json.tool "$dashboard" >/dev/null || return 1
  done
}

test_alerts() {
  promtool check config --syntax-only deploy/prometheus/prometheus.yaml &&
    promtool check rules deploy/prometheus/alerts.yaml &&
    promtool test rules deploy/prometheus/alerts_test.yaml
}

# absent PATTERN: fails and shows the places when one of the project's own files holds it.
absent() {
  if own_files | xargs grep -InE -e "$1" /dev/null; then
    return 1
  fi
}

run_check() {
  case $1 in
  format) check format ruff ruff format --check . ;;
  lint) check lint ruff ruff check . ;;
  types) check types mypy mypy ;;
  imports) check imports lint-imports lint-imports --config .importlinter ;;
  dependencies) check dependencies deptry deptry . ;;
  security) check security bandit bandit --quiet --configfile pyproject.toml --recursive service deploy ;;
  spelling) check spelling codespell check_spelling ;;
  migrations) check migrations squawk squawk --config .squawk.toml migrations/*.sql ;;
  dockerfile) check dockerfile hadolint hadolint --config .hadolint.yaml Dockerfile ;;
  shell) check shell shellcheck lint_shell ;;
  yaml) check yaml yamllint yamllint --strict . ;;
  kubernetes) check kubernetes kubernetes-validate validate_kubernetes ;;
  dashboards) check dashboards python parse_dashboards ;;
  alerts) check alerts promtool test_alerts ;;
  # Packages come from whichever index the reader trusts, and nothing knows the machine that it was written on.
  hosts) check hosts grep absent '(p[y]pi|pythonhoste[d]|np[m]js|de[b]\.debian|crate[s])\.(org|com|io)' ;;
  paths) check paths grep absent '(^|[^A-Za-z0-9_.])/(wor[k]|hom[e]/[a-z]+|User[s]|roo[t])/' ;;
  *)
    printf 'there is no check %s; there are: %s\n' "$1" "$ALL" >&2
    exit 2
    ;;
  esac
}

# shellcheck disable=SC2086 # the list is split on purpose
[ $# -gt 0 ] || set -- $ALL
for name_wanted in "$@"; do
  run_check "$name_wanted"
done

if [ "$failed" -gt 0 ]; then
  printf '%s of %s checks failed\n' "$failed" "$#"
  exit 1
fi
