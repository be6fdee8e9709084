#!/usr/bin/env bash
# What wants a GPU, on one machine in under nine minutes and without the network: the tests marked gpu, the training
# benchmark and, where a folder with data/ and tokenizer/ is given, three minutes of BERT-base pretraining on it.
#
#   benchmarks/gpu.sh [FOLDER [--key value ...]]    keys as for scripts/pretrain.py
#   benchmarks/gpu.sh --tiny                        the same steps with tiny models on a CPU
#
# OUT: where all results go (benchmarks/results). PYTHON: the interpreter. PRETRAIN_SECONDS: up to 480 (180).
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-benchmarks/results}
python=${PYTHON:-python}
pretrain_seconds=${PRETRAIN_SECONDS:-180}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false
failed=0

step() {  # NAME SECONDS ACCEPTED_STATUS COMMAND...: its output goes to NAME.log; the steps after it run in any case
    local name=$1 seconds=$2 accepted=$3 start=$SECONDS status=0
    shift 3
    timeout ${gently:-} -k 15 "$seconds" "$@" >"$out/$name.log" 2>&1 </dev/null || status=$?
    if [ "$status" -eq 0 ] || [ "$status" -eq "$accepted" ]; then
        echo "gpu.sh: $name: $((SECONDS - start)) s"
    else
        echo "gpu.sh: $name: failed with status $status after $((SECONDS - start)) s; see $out/$name.log"
        tail -n 5 "$out/$name.log"
        failed=1
    fi
}

NO_TESTS=5   # pytest's status where nothing is marked
PREEMPTED=75 # ours where the time limit ended a run, which saved itself

if [ "${1:-}" = --tiny ]; then
    folder=$work
    tiny=(--data_dir "$work/data" --tokenizer_dir "$work/tokenizer" --vocab_size 500 --block_sizes 32
        --stage_fractions 1.0 --stage_batch_sizes 4 --edge_buffer 4 --min_word_frequency 3 --validation_fraction 0.1
        --preprocessing_num_workers 1)
    step prepare 30 0 "$python" scripts/prepare_data.py "${tiny[@]}"
    tests=(tests/training)  # collecting all takes longer than all other steps
    bench=(--tiny --windows 2 --data_dir "$work/data")
    pretrain=("${tiny[@]}" --hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 32
        --max_steps 2 --eval_steps 2 --save_steps 2 --max_eval_steps 1 --use_cpu true)
else
    folder=${1:-}
    tests=(tests)
    bench=(--only gpu --windows 4)
    # The longest that fits beside the other steps; rows of a batch as in the benchmark.
    pretrain=(configs/base.json --data_dir "$folder/data" --tokenizer_dir "$folder/tokenizer"
        --stage_batch_sizes 256 64 --max_steps 2000 --warmup_steps 200 --learning_rate 4e-4 --logging_steps 50
        --eval_steps 500 --save_steps 1000 --dataloader_num_workers 4 "${@:2}")
fi

step gpu_tests 50 $NO_TESTS "$python" -m pytest -m gpu -n 0 -p no:cacheprovider "${tests[@]}"
step gpu_bench 290 0 "$python" benchmarks/bench_train.py "${bench[@]}" --output "$out"
if [ -n "$folder" ]; then
    # The signal goes to the run alone, which saves itself; the end of a loader process would be an error to it.
    gently="--foreground --preserve-status" step gpu_pretrain "$pretrain_seconds" $PREEMPTED \
        "$python" benchmarks/pretrain_prepared.py "${pretrain[@]}" --output_dir "$work/out" --report_to none \
        --disable_tqdm true
    # Without the weights, which are large: curves, metrics and, of a run that was stopped, its state.
    mkdir -p "$out/gpu_pretrain" "$work/out"
    find "$work/out" -maxdepth 1 -type f ! -name '*.safetensors' ! -name 'tokenizer*' -exec cp -t "$out/gpu_pretrain" {} +
    newest=$(ls -td "$work"/out/checkpoint-* 2>/dev/null | head -n 1)
    [ -z "$newest" ] || cp "$newest/trainer_state.json" "$out/gpu_pretrain"
fi
exit $failed
