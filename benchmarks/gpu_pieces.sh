# shellcheck shell=bash disable=SC2034,SC2153,SC2191
# The pieces of gpu_runbook.sh, which reads this file: a function piece_NAME each, run in a process of
# its own whose exit code says what came of it. Their sizes are at the end, full and tiny. (ShellCheck
# is told that both files share variables, and that flags with an = stand in arrays.)

readonly TESTS=(nn/layers nn/fused nn/execution nn/skipping oneshot/accuracy oneshot/path_dropout
  oneshot/path_samplers spaces/cell spaces/choices costs/params_flops)

# -- what pieces are made of -------------------------------------------------------------------------

skip() {
  echo "$*" >"$OUT/$PIECE/reason"
  exit "$SKIPPED"
}

# Runs a command unless the piece was asked to stop; prints it before.
run() {
  [[ -z $STOPPED ]] || return "$ENDED"
  say "$*"
  echo "$*" >>"$OUT/$PIECE/commands"
  "$@"
}

# bench FOLDER/FILE NAME ARGS: a benchmark, once; its lines appear when it is done.
bench() {
  local file=$OUT/$1.jsonl
  shift
  [[ ! -e $file ]] || return 0
  mkdir -p "$(dirname "$file")"
  rm -f "$file.part"
  run "$PYTHON" -m benchmarks "$@" --output "$file.part" || return
  mv "$file.part" "$file"
}

# Several benchmarks: one that fails does not end the others. Call `settle` after them.
CODE=0
try() {
  local code=0
  "$@" || code=$?
  [[ $code -ne $ENDED ]] || exit "$ENDED"
  [[ $code -eq 0 ]] || CODE=$code
}
settle() { exit "$CODE"; }

# search RUN CONFIG FLAGS: launch.py in a workdir. It may be stopped: what is there is then read all
# the same, so the exit code is kept for `settle`.
search() {
  local workdir=$OUT/runs/$1 config=$2
  shift 2
  run "$PYTHON" launch.py --config="configs/$config.py" --workdir="$workdir" "$@" "${TINY[@]}" ||
    CODE=$?
}

# read_out HELPER RUN: results of what a run has left by now.
read_out() {
  [[ ! -e $OUT/runs/$2/config.json ]] || helper "$1" "$OUT" "$PIECE" "$OUT/runs/$2"
}

need_images() {
  have_images || [[ -n $DRY ]] ||
    skip "no cifar10 with all its shards in TFDS_DATA_DIR=${TFDS_DATA_DIR:-} or DATA_PARTS"
}

have_images() {
  local split files
  for split in train test; do
    files=("${TFDS_DATA_DIR:-}"/cifar10/*/cifar10-"$split".*-of-*)
    [[ -e ${files[0]} ]] && ((${#files[@]} == 10#${files[0]##*-of-})) || return 1
  done
}

# -- pieces ------------------------------------------------------------------------------------------

piece_device() {
  try bench device/device device "${TYPE[@]}" --repeats "$REPEATS"
  settle
}

piece_train_step() {
  local form
  for form in ${EXECUTIONS:-masked dispatch}; do
    # A process for each, so that it has the device's memory for itself.
    try bench "train_step/$form-ramp" train_step "${STEP[@]}" --executions "$form" --all-on 0
    try bench "train_step/$form-all_on" train_step "${STEP[@]}" --executions "$form" \
      --all-on "$BATCH" --ramp
  done
  settle
}

piece_scoring() {
  local form count
  try bench device/device device "${TYPE[@]}" --repeats "$REPEATS"
  for count in $COUNTS; do
    for form in ${EXECUTIONS:-$FORMS}; do
      try bench "scoring/$form-$count" scoring "${SCORING[@]}" --executions "$form" \
        --candidates "$count"
    done
  done
  try helper bandwidth "$OUT"
  settle
}

# The same with the kernels that have not been timed, against those that have.
piece_fused() {
  local form
  for form in ${EXECUTIONS:-$FORMS}; do
    try bench "fused/scoring-$form" scoring "${SCORING[@]}" --executions "$form" --candidates 16
    NAS_JAX_FUSED_KERNELS=1 try bench "fused/scoring-$form-fused" scoring "${SCORING[@]}" \
      --executions "$form" --candidates 16
  done
  NAS_JAX_FUSED_KERNELS=1 try bench fused/train_step-masked-fused train_step "${STEP[@]}" \
    --executions masked --all-on 0
  settle
}

# Time against memory, whose peak is a field of each line; train_step has the step without.
piece_remat() {
  local what
  for what in norms ops; do
    try bench "remat/$what" train_step "${STEP[@]}" --executions masked --all-on 0 --remat "$what"
  done
  settle
}

piece_supernet() {
  need_images
  search cifar cifar --mode=supernet "${CIFAR[@]}"
  read_out training cifar
  settle
}

piece_sweep() {
  need_images
  [[ $(helper state "$OUT" supernet) == "done" ]] || skip "the piece supernet is not done"
  search cifar cifar --mode=sweep "${CIFAR[@]}"
  read_out scores cifar
  settle
}

benchmark_space() {
  local config=$1 table=$2 per_use=$3
  shift 3
  need_images
  [[ -z $DRY ]] || table=$(made_up "$config")
  [[ -e $table || -e ${NAS_BENCH_DIR:-.}/$table ]] || skip "no $table in NAS_BENCH_DIR=${NAS_BENCH_DIR:-}"
  set -- --config.table="$table" --config.supernet.per_use_gradients="$per_use" "$@"
  search "$PIECE" "$config" --mode=supernet "$@"
  # Not the report: --mode=report needs no GPU, and the workdir is carried.
  ((CODE)) || search "$PIECE" "$config" --mode=sweep "$@"
  read_out training "$PIECE"
  read_out ranking "$PIECE"
  settle
}

piece_nasbench_macro() {
  benchmark_space nasbench_macro nas-bench-macro_cifar10.json False "${MACRO[@]}"
}
piece_nasbench_macro_per_use() {
  benchmark_space nasbench_macro nas-bench-macro_cifar10.json True "${MACRO[@]}"
}
piece_nasbench201() { benchmark_space nasbench201 nasbench201_cifar10.csv False "${NB201[@]}"; }
piece_nasbench201_per_use() { benchmark_space nasbench201 nasbench201_cifar10.csv True "${NB201[@]}"; }

# A table of a few architectures for a dry run, whose accuracies count up.
made_up() {
  local file=$OUT/runs/$1.csv archs=({0,1,2}{0,1,2}{0,1,2})
  [[ $1 == nasbench_macro ]] || archs=("|"{none,skip_connect,nor_conv_3x3}"~0|+|skip_connect~0|"{none,nor_conv_1x1,avg_pool_3x3}"~1|+|none~0|skip_connect~1|"{none,skip_connect}"~2|")
  {
    echo "arch,${DATA}_test_accuracy"
    printf '%s\n' "${archs[@]}" | awk '{ print $0 "," NR }'
  } >"$file"
  echo "$file"
}

# Trained on the scores that the sweep has by then, which stay the same when it goes on.
piece_standalone() {
  local name=standalone-$NETWORKS-$EPOCHS trials=$OUT/runs/cifar/trials.jsonl copy
  need_images
  copy=$OUT/runs/$name/trials.jsonl
  if [[ ! -e $copy ]]; then
    [[ -s $trials ]] || skip "the piece sweep has no scores yet"
    mkdir -p "${copy%/*}"
    cp "$trials" "$copy.part"
    mv "$copy.part" "$copy"
  fi
  search "$name" cifar --mode=retrain --config.sweep.num_candidates="$(wc -l <"$copy")" \
    --config.retrain.short.groups.{random,stratified}=0 "${CIFAR[@]}" "${FINAL[@]}"
  read_out networks "$name"
  settle
}

# The best network of the piece standalone, as a user would take it home.
piece_export() {
  local workdir=$OUT/runs/standalone-$NETWORKS-$EPOCHS network=$OUT/$PIECE/network
  need_images
  [[ $(helper state "$OUT" standalone) == "done" ]] || skip "the piece standalone is not done"
  "$PYTHON" -c "import flatbuffers" 2>/dev/null || skip "no flatbuffers: pip install '.[export]'"
  try run "$PYTHON" launch.py --mode=report --workdir="$workdir"
  run "$PYTHON" launch.py --mode=export --workdir="$workdir" --folder="$network" || CODE=$?
  ((CODE)) || try helper exported "$OUT" "$PIECE" "$workdir" "$network"
  settle
}

piece_tests() {
  local file xml=$OUT/tests/junit.xml files=() code=0
  for file in ${DRY_TESTS:-"${TESTS[@]}"}; do files+=("tests/${file%/*}/test_${file##*/}.py"); done
  # Tests that fail are a result; codes above 1 say that they could not be run.
  run "$PYTHON" -m pytest -n 0 -q -p no:cacheprovider --junitxml="$xml" "${files[@]}" || code=$?
  ((code <= 1)) || exit "$code"
  helper tests "$OUT" "$xml"
}

# -- sizes -------------------------------------------------------------------------------------------

full() {
  BATCH=1024 REPEATS=6 FORMS="masked switch dispatch" COUNTS="16 64 256" TINY=() DRY_TESTS=""
  TYPE=(--dtype bfloat16)
  STEP=("${TYPE[@]}" --batch-size "$BATCH" --repeats 3)
  SCORING=("${TYPE[@]}" --images 500 --repeats "$REPEATS")
  CIFAR=() MACRO=() NB201=()
  FINAL=(--config.retrain.final.filters="(16,)" --config.retrain.final.train.num_epochs="$EPOCHS"
    --config.retrain.final.groups.{top,small,random}="$NETWORKS")
}

tiny() {
  local net=(--cells 1 --blocks 1 --filters 2 --image-size 4 --repeats 1)
  BATCH=4 REPEATS=1 FORMS=masked COUNTS=2 DRY_TESTS=storage/json_files
  TYPE=(--dtype float32)
  STEP=("${net[@]}" --batch-size "$BATCH" --ghost-batch-size 2)
  SCORING=("${net[@]}" --images 4)
  EXECUTIONS=${EXECUTIONS:-masked}
  TINY=(--config.data.name="$DATA" --config.data.image_size=8 --config.data.train="train[:128]"
    --config.data.valid="$VALID" --config.data.test="test[:32]"
    --config.supernet.filters=4 --config.supernet.train.num_steps="$STEPS"
    --config.supernet.train.log_every=1 --config.supernet.train.checkpoint_every=0
    --config.sweep.num_images=16 --config.sweep.batch_size=16
    --config.retrain.{short,final}.train.{batch_size=8,ghost_batch_size=4})
  CIFAR=(--config.space.num_cells=1 --config.space.num_blocks=1 --config.space.cells_per_stage=1
    --config.space.ops='("identity","maxpool")' --config.sweep.candidates_per_batch=4
    --config.supernet.train.batch_size=8 --config.supernet.train.ghost_batch_size=4)
  MACRO=(--config.space.stages="(1,2)" --config.space.head=2
    --config.supernet.train.batch_size=12 --config.supernet.train.ghost_batch_size=4)
  NB201=(--config.space.num_cells=1 --config.space.num_stages=1
    --config.supernet.train.batch_size=20 --config.supernet.train.ghost_batch_size=4)
  [[ $PIECE == standalone ]] || CIFAR+=(--config.sweep.num_candidates=8)
  FINAL=(--config.retrain.final.filters="(2,)" --config.retrain.final.groups.{top=1,{small,random}=0}
    --config.retrain.final.train.num_steps=2)
}

