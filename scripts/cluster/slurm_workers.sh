#!/bin/bash
# Fine-tunes on the machines of a SLURM job: one worker on each, with all of its GPUs.
#   sbatch --nodes 4 --gpus-per-node 8 scripts/cluster/slurm_workers.sh --image_dir /shared/photos --fine_tune_from all
#SBATCH --job-name=fine-tuning
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
set -euo pipefail

# Each works in a folder of its own, worker-0 and so on: two machines must not write to one store of bottlenecks.
# The results are in worker-0/tf_files.
exec srun --distribution=block --kill-on-bad-exit=1 --label bash -c '
  mkdir -p "worker-$SLURM_PROCID" && cd "worker-$SLURM_PROCID" && exec retrain --distribution multi_worker "$@"
' retrain "$@"
