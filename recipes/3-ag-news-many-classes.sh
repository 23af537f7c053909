#!/usr/bin/env bash
# AG News, 5 %: a frozen head for any number of classes; then MNLI, two sets of vectors side by side, genre by genre.
# ROWS: rows of each split. PAIRS: the second source. VECTORS: the two that are compared on it, as options.
. "$(dirname "$0")/setup.sh"
SOURCE=${SOURCE:-fancyzhx/ag_news} PAIRS=${PAIRS:-nyu-mll/multi_nli}
read -ra two <<< "${VECTORS:---encoder $ENCODER,microsoft/deberta-base@refs/pr/4}" # main has no safetensors
head=(--freeze --head linear --epochs 20 --batch-size 32 --learning-rate 1e-3)

cli explore "$SOURCE" "${look[@]}" --json > "$to/explore.json"
cli fine-tune "$SOURCE" --limit "${ROWS:-5%}" "${head[@]}" "${fit[@]}" --json > "$to/head.json"
cli compare "$SOURCE" --limit "${ROWS:-5%}" "${head[@]}" --contenders majority,tfidf,lr,frozen-head \
  "${fit[@]}" --report "$to/page.html" --json > "$to/compare.json"

# which vectors are better on MNLI, genre by genre, with intervals and a paired test
cli compare "$PAIRS" --text premise --text hypothesis --limit "${PAIR_ROWS:-1000}" --contenders majority,lr --by genre \
  "${fit[@]}" "${two[@]}" --report "$to/pairs.html" --json > "$to/pairs.json"
table
