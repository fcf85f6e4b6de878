#!/usr/bin/env bash
# What a container runs, and a step of a Slurm job: `train` is checked first and goes through torchrun; all else goes to rlperc.
set -euo pipefail

if [[ "${1:-}" != train ]]; then
    exec rlperc "$@"
fi

recipe=()
for word in "${@:2}"; do
    case $word in
        -h | --help) exec rlperc train --help ;;
        --tiny) recipe+=("$word") ;;
        -*) ;; # --resume and --move-aside are about the run, of which `check` knows nothing
        *) recipe+=("$word") ;;
    esac
done
# torchrun's own variable, which `check` reads too: a process for each GPU.
if nvidia-smi --list-gpus >/dev/null 2>&1; then
    export PET_NPROC_PER_NODE="${PET_NPROC_PER_NODE:-gpu}"
fi
# What is wrong is said once, and not by every process; exit code 2.
rlperc check --here "${recipe[@]}"
exec python "$(dirname "$0")/launch.py" -m rlperc "$@"
