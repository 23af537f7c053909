# Read by every recipe (bash). What may be set from outside: SOURCE and ENCODER (a name on the Hub or a local folder;
# ENCODER=minilm needs no network), OUT (where JSON, pages, vectors and runs go), PYTHON.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=$(basename "$0" .sh)
ENCODER=${ENCODER:-distilbert-base-uncased} OUT=${OUT:-$here/out} PYTHON=${PYTHON:-python}
to="$OUT/$name"
mkdir -p "$to"
look=(--encoder "$ENCODER" --pooling cls --cache "$OUT/cache") # [CLS], as the sources have it
fit=("${look[@]}" --runs "$OUT/runs")
cli() { echo "+ cli.py $*" >&2 && "$PYTHON" "$here/../cli.py" "$@"; }
table() { "$PYTHON" "$here/table.py" "$to"; }
