#!/usr/bin/env bash
# Measure on one GPU in pieces, each of which ends within ten minutes and goes on where it was.
#
#   benchmarks/gpu_runbook.sh OUT [PIECE...]             these pieces, or all, in the order of --list
#   benchmarks/gpu_runbook.sh --dry-run OUT [PIECE...]   the same for real, but tiny and on a CPU
#   benchmarks/gpu_runbook.sh --list                     pieces, what each needs, seconds at most
#
# A piece that is done is not done again; one that was stopped by its limit or by SIGTERM goes on in
# the next call; a failure of one does not end the others. Exit code: 0 all done or skipped, 1 a
# piece failed, 2 wrong input, 143 something is unfinished.
#
# OUT holds
#   summary.json      per piece: state, reason, command, commit, device, seconds, results
#   environment.json  Python, packages and device
#   PIECE/            results as lines of JSON, in the form of `python -m benchmarks`
#   logs/PIECE.log    what was printed
#   runs/             workdirs of launch.py
#   export/network/   the best stand-alone network, exported
#   cache/            JAX's compilation cache
#   data/, site/      the data set joined of its parts, packages out of wheels
#   carry/            what is needed to go on elsewhere, packed: state.tar.gz.0, .1, ..
#
# To a machine that nothing but a few files reaches: carry OUT/carry/ back and in again (as carry/ in
# an empty OUT it is unpacked at the start), and the data set as folders of a part of its shards each:
#   mkdir -p A/cifar10/3.0.2 B/cifar10/3.0.2
#   cp cifar10/3.0.2/*-train.*-0000[01]-of-00004                        A/cifar10/3.0.2   # part A
#   cp cifar10/3.0.2/*-train.*-0000[23]-of-00004                        B/cifar10/3.0.2   # part B
#   cp cifar10/3.0.2/*-test.* cifar10/3.0.2/*.json cifar10/3.0.2/*.txt  C/cifar10/3.0.2   # the rest
# A folder that was carried in an earlier call and still lies there need not be carried again. Until
# all are there, pieces that need the data set are skipped, and others are done.
#
# Settings, by environment:
#   TFDS_DATA_DIR    folder that has cifar10/, as tensorflow-datasets prepares it
#   DATA_PARTS       instead: folders with parts of it, with spaces between them
#   NAS_BENCH_DIR    folder of the benchmarks' tables
#   WHEELS           folder of wheels, if packages are missing: all in it are installed in OUT/site
#   EXECUTIONS       forms of the one-shot model that are timed
#   NETWORKS, EPOCHS stand-alone networks of each group, and how long they are trained
#   LIMIT            seconds at most of every piece, instead of the table's
#   TOTAL            seconds at most of the whole call
#   CARRY            where to pack, instead of OUT/carry
#   STEPS            of a training in a dry run
#   PYTHON           python3
#   NAS_JAX_COMMIT   of a copy of the repository that has no history
set -euo pipefail

# name | seconds at most | needs | what
readonly TABLE="\
device|120|-|a copy and a product of matrices: what the device reaches
train_step|540|-|images/s at batch 1,024, over the ramp and with all paths on, beside PyTorch
scoring|540|-|architectures/s on 500 images, 16 to 256 at once, beside PyTorch; share of the bandwidth
fused|540|-|scoring and the step with NAS_JAX_FUSED_KERNELS=1, beside those without
remat|540|-|the step with supernet.remat=norms and ops: images/s, peak memory
supernet|540|cifar10|the paper's supernet: configs/cifar.py
sweep|540|cifar10, supernet|scores of its 20,000 candidates, and their distribution
nasbench_macro|540|cifar10, table|NAS-Bench-Macro at full size: Kendall's tau with the published accuracies
nasbench_macro_per_use|540|cifar10, table|the same with supernet.per_use_gradients
nasbench201|540|cifar10, table|NAS-Bench-201 at full size: Kendall's tau with the published accuracies
nasbench201_per_use|540|cifar10, table|the same with supernet.per_use_gradients
standalone|540|cifar10, sweep|top, random, small and all-on networks of the sweep at F = 16
export|300|cifar10, standalone|the best of these as StableHLO on the GPU, beside a CPU; the report's page
tests|540|-|the test suite's fast part"
readonly GRACE=40              # seconds from SIGTERM to SIGKILL: a long compilation hears no signal
readonly SKIPPED=77 ENDED=143  # exit codes of a piece; the second, of all that SIGTERM ends

PYTHON=${PYTHON:-python3} NETWORKS=${NETWORKS:-2} EPOCHS=${EPOCHS:-20} STEPS=${STEPS:-20}
DRY=${DRY:-} STOPPED="" CHILD=""

say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*"; }

wrong() {
  echo "gpu_runbook.sh: error: $*" >&2
  exit 2
}

helper() { "$PYTHON" -m benchmarks.gpu_runbook "$@"; }

column() { awk -F'|' -v name="$1" -v field="$2" '$1 == name { print $field }' <<<"$TABLE"; }

# -- one piece ---------------------------------------------------------------------------------------

# The process of a piece: `timeout` stops it and all that it started.
one_piece() {
  PIECE=$1
  # shellcheck source=benchmarks/gpu_pieces.sh
  source benchmarks/gpu_pieces.sh
  trap 'STOPPED=1' TERM
  DATA=cifar10 VALID="train[45000:45032]"
  have_images || DATA=digits VALID="valid[:32]"
  if [[ -n $DRY ]]; then tiny; else full; fi
  mkdir -p "$OUT/$PIECE" "$OUT/runs"
  "piece_$PIECE"
}

limit_of() {
  local limit=${LIMIT:-$(column "$1" 2)} left
  if [[ -n ${TOTAL:-} ]]; then
    left=$((TOTAL - SECONDS - GRACE))
    ((limit < left)) || limit=$left
  fi
  echo "$limit"
}

stop() {
  STOPPED=1
  [[ -z $CHILD ]] || kill -TERM "$CHILD" 2>/dev/null || true
}

# Runs a piece, waits for it, and writes what came of it.
do_piece() {
  local piece=$1 limit code=0 began=$SECONDS
  limit=$(limit_of "$piece")
  ((limit > 0)) || { say "$piece: no time left" && return "$ENDED"; }
  say "$piece: at most $limit s, log in $OUT/logs/$piece.log"
  timeout --preserve-status --kill-after="$GRACE" --signal=TERM "$limit" \
    "$BASH" benchmarks/gpu_runbook.sh --piece "$OUT" "$piece" >>"$OUT/logs/$piece.log" 2>&1 &
  CHILD=$!
  wait "$CHILD" || code=$?
  # A signal to this process ends `wait`, not the piece.
  while kill -0 "$CHILD" 2>/dev/null; do code=0 && wait "$CHILD" || code=$?; done
  CHILD=""
  say "$piece: $(helper note "$OUT" "$piece" "$code" $((SECONDS - began)))"
  helper pack "$OUT" "${CARRY:-$OUT/carry}"
  ((code != SKIPPED)) || code=0
  return "$code"
}

# -- the whole ---------------------------------------------------------------------------------------

# The repository becomes the working folder.
make_absolute() {
  local name
  for name in TFDS_DATA_DIR NAS_BENCH_DIR WHEELS CARRY; do
    [[ -z ${!name:-} ]] || export "$name=$(realpath -m "${!name}")"
  done
}

# Parts of a TFDS folder become one, of links.
join_parts() {
  local part file
  for part in ${DATA_PARTS:-}; do
    [[ -d $part ]] || wrong "DATA_PARTS: $part is no folder"
    part=$(realpath "$part")
    while IFS= read -r file; do
      mkdir -p "$OUT/data/$(dirname "$file")"
      ln -sfn "$part/$file" "$OUT/data/$file"
    done < <(cd "$part" && find . -type f)
  done
  [[ -z ${DATA_PARTS:-} ]] || export TFDS_DATA_DIR=$OUT/data
}

install_wheels() {
  export PYTHONPATH=$OUT/site:$PWD${PYTHONPATH:+:$PYTHONPATH}
  [[ -n ${WHEELS:-} && ! -e $OUT/site ]] || return 0
  # Without what they depend on: what is installed already would be asked for again.
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --target "$OUT/site.part" \
    "$WHEELS"/*.whl || wrong "WHEELS=$WHEELS cannot be installed"
  mv "$OUT/site.part" "$OUT/site"
}

prepare() {
  mkdir -p "$OUT/logs"
  if [[ -n $DRY ]]; then
    export JAX_PLATFORMS=cpu
    # Its programs run once, and need not be fast.
    XLA_FLAGS="--xla_llvm_disable_expensive_passes=true ${XLA_FLAGS:-}"
    export XLA_FLAGS="--xla_backend_optimization_level=0 $XLA_FLAGS"
  fi
  export OUT DRY STEPS NETWORKS EPOCHS PYTHON PYTHONUNBUFFERED=1
  export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$OUT/cache}
  helper unpack "$OUT"
  install_wheels
  helper environment "$OUT" || exit 2
  [[ -n $DRY ]] || export JAX_PLATFORMS=cuda,cpu  # tests would take a CPU, and so would a lost driver
}

list() {
  local name limit needs what
  while IFS='|' read -r name limit needs what; do
    printf '%-24s%4s s   needs %-18s%s\n' "$name" "$limit" "$needs" "$what"
  done <<<"$TABLE"
}

main() {
  local piece pieces code worst=0
  [[ $# -gt 0 ]] || wrong "OUT is missing; see the head of $0"
  mkdir -p "$1"
  OUT=$(realpath "$1") && shift
  mapfile -t pieces < <(cut -d'|' -f1 <<<"$TABLE")
  [[ $# -eq 0 ]] || pieces=("$@")
  for piece in "${pieces[@]}"; do
    [[ -n $(column "$piece" 1) ]] || wrong "$piece is no piece; see --list"
  done
  trap stop TERM INT
  make_absolute
  join_parts
  cd "$ROOT"
  prepare
  for piece in "${pieces[@]}"; do
    [[ -z $STOPPED ]] || exit "$ENDED"
    if [[ $(helper state "$OUT" "$piece") == "done" ]]; then
      say "$piece: done before"
      continue
    fi
    code=0 && do_piece "$piece" || code=$?
    case $code in
      0) ;;
      "$ENDED" | 137) ((worst)) || worst=$ENDED ;;
      *) worst=1 ;;
    esac
  done
  exit "$worst"
}

ROOT=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
case ${1:-} in
  --list) list ;;
  --piece) OUT=$2 && one_piece "$3" ;;
  --dry-run) DRY=1 && main "${@:2}" ;;
  *) main "$@" ;;
esac
