#!/usr/bin/env bash
# IMDB, 5 % of train and test: how good is a linear head on frozen vectors, and what is a score on sorted rows worth?
# ROWS: how many rows of train and of test, such as 5% or 1250.
. "$(dirname "$0")/setup.sh"
SOURCE=${SOURCE:-stanfordnlp/imdb}
head=(--freeze --head linear --epochs 5 --batch-size 64 --learning-rate 1e-3 --max-length 400)

# what the original saw: the first rows of a source that is sorted by class
cli explore "$SOURCE" --max-length 400 "${look[@]}" --json > "$to/whole.json"
cli explore "$SOURCE" --max-length 400 --rows "first:${ROWS:-5%}" "${look[@]}" --json > "$to/first.json"

# the same settings on as many rows of both classes
cli fine-tune "$SOURCE" --limit "${ROWS:-5%}" "${head[@]}" "${fit[@]}" --json > "$to/head.json"
cli compare "$SOURCE" --limit "${ROWS:-5%}" "${head[@]}" --contenders majority,tfidf,lr,frozen-head \
  "${fit[@]}" --report "$to/page.html" --json > "$to/compare.json"
table
