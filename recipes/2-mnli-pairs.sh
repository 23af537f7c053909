#!/usr/bin/env bash
# MNLI, 1,000 pairs to learn from: what does a frozen encoder know of entailment, and what is pretraining worth?
. "$(dirname "$0")/setup.sh"
SOURCE=${SOURCE:-nyu-mll/glue:mnli}
pairs=("$SOURCE" --text premise --text hypothesis --drop-empty --limit "${ROWS:-1000}")
train=(--epochs 5 --batch-size 32 --learning-rate 2e-5 --warmup 0 --max-length 104)

# token lengths of [CLS] premise [SEP] hypothesis [SEP], and the max_length that they propose
cli explore "${pairs[@]}" "${look[@]}" --json > "$to/explore.json"

# DistilBERT's own head (pre_classifier and classifier) on the frozen encoder, one linear layer, and random weights
cli fine-tune "${pairs[@]}" "${train[@]}" --freeze --head standard "${fit[@]}" --json > "$to/standard.json"
cli fine-tune "${pairs[@]}" "${train[@]}" --freeze --head linear "${fit[@]}" --json > "$to/linear.json"
cli fine-tune "${pairs[@]}" "${train[@]}" --from-scratch "${fit[@]}" --json > "$to/scratch.json"
cli fine-tune "${pairs[@]}" "${train[@]}" "${fit[@]}" --json > "$to/tuned.json"
cli compare "${pairs[@]}" "${train[@]}" --contenders majority,tfidf,lr,frozen-head,from-scratch,fine-tune \
  "${fit[@]}" --report "$to/page.html" --json > "$to/compare.json"
table
