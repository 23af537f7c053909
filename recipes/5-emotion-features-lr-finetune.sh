#!/usr/bin/env bash
# Emotion: logistic regression on frozen vectors, the same after SMOTE, TF-IDF or fine-tuning: which, and by how much?
. "$(dirname "$0")/setup.sh"
SOURCE=${SOURCE:-dair-ai/emotion}
train=(--epochs 2 --batch-size 64 --learning-rate 2e-5 --weight-decay 0.01 --warmup 0)

cli explore "$SOURCE" "${look[@]}" --json > "$to/explore.json"
cli fit-lr "$SOURCE" --imbalance none,smote-minority "${fit[@]}" --json > "$to/lr.json"
cli fine-tune "$SOURCE" "${train[@]}" "${fit[@]}" --json > "$to/tuned.json"

# labels that are wrong, rows of highest and lowest loss
cli audit "$SOURCE" --contenders tfidf,lr "${fit[@]}" --json > "$to/audit.json"

# the page: classes, lengths by class, confusion, those rows, and the verdict
cli compare "$SOURCE" "${train[@]}" --contenders majority,tfidf,lr,lr+smote-minority,fine-tune \
  "${fit[@]}" --report "$to/page.html" --json > "$to/compare.json"
table
