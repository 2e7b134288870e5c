#!/bin/sh
# What Slurm starts for each job, on a compute node and outside of any container: enters the image again.
exec ./in-container sh -s <<'JOB'
{exec_job}
JOB
