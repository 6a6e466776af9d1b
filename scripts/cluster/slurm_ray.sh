#!/bin/bash
# Starts Ray on the machines of a SLURM job, runs `retrain --cluster` on the first of them, and stops Ray.
#   sbatch --nodes 4 scripts/cluster/slurm_ray.sh --image_dir s3://bucket/photos --bottleneck_dir s3://bucket/bottlenecks
#SBATCH --job-name=retrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
set -euo pipefail

# This script runs on the job's first machine, so Ray's head is there too. The port differs from job to job.
port=$((20000 + SLURM_JOB_ID % 10000))
address=$SLURMD_NODENAME:$port
# Whoever reaches Ray can run programs as you: only who has this job's token may.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')

others=$((SLURM_JOB_NUM_NODES - 1))
log=ray-$SLURM_JOB_ID.log
trap 'ray stop >> "$log" 2>&1' EXIT
ray start --head --port "$port" > "$log" 2>&1
if ((others)); then # they are used as they come, and end with this script
  srun --nodes "$others" --ntasks "$others" --exclude "$SLURMD_NODENAME" --label \
    ray start --address "$address" --block >> "$log" 2>&1 &
fi
retrain --cluster "$address" "$@"
