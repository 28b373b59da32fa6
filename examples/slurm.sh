#!/bin/bash
# Trains on four machines of a Slurm cluster, one worker each, with all its GPUs:
#
#   sbatch examples/slurm.sh --recipe=cifar10_wrn32_10_free8 --output=/shared/run1
#
# Flags go to `keras-free-adv train`. --output must be a folder that all nodes see. When a
# node fails the job ends; submit it again and it goes on from the last backup.
#SBATCH --job-name=free-adversarial
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00

HOSTS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tr '\n' ' ')
export HOSTS

# One that fails takes the others along: they could only wait for it.
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c '
    TF_CONFIG=$(python examples/tf_config.py --hosts="$HOSTS" --worker="$SLURM_PROCID")
    export TF_CONFIG
    exec python -m keras_free_adv train --strategy=multi_worker --verbose=2 "$@"
' worker "$@"
