#!/usr/bin/env bash
# Movie reviews, 80/20: is fine-tuning on 1,600 long texts worth it, and what is an epoch chosen on the test rows worth?
# SOURCE has no default: NLTK's movie_reviews is not on the Hub as such. A CSV with the columns text and label will do.
ENCODER=${ENCODER:-google-bert/bert-base-uncased}
. "$(dirname "$0")/setup.sh"
SOURCE=${SOURCE:?a file or folder of movie reviews with the columns text and label}
train=(--epochs 3 --batch-size 8 --learning-rate 2e-5 --weight-decay 0.01 --warmup 0 --max-length "${MAX_LENGTH:-512}")
own=("${train[@]}" --head linear --dropout 0.1 --xavier --schedule constant)

cli explore "$SOURCE" --split 80/0/20 --max-length 512 "${look[@]}" --json > "$to/explore.json"

# (a) the Trainer's way, as it was done: the 20 % that are judged also choose the best epoch
cli fine-tune "$SOURCE" --split 80/20/0 "${train[@]}" "${fit[@]}" --json > "$to/trainer.json"

# (b) the loop's way: a linear head on [CLS], no epoch chosen, judged on the same 20 %
cli fine-tune "$SOURCE" --split 80/0/20 "${own[@]}" "${fit[@]}" --json > "$to/loop.json"
cli compare "$SOURCE" --split 80/0/20 "${own[@]}" --contenders majority,tfidf,lr,fine-tune \
  "${fit[@]}" --report "$to/page.html" --json > "$to/compare.json"
table
