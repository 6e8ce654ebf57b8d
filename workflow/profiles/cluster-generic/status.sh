#!/bin/sh
# Print `running`, `success` or `failed` for a job.
#
#   status.sh SCHEDULER ID
#
# A scheduler that cannot answer just now is asked again later: such a job counts as running. One
# that has forgotten a job leaves no proof that it succeeded: that counts as failed, and Snakemake
# runs the job again. (Set how long it remembers to minutes at least; docs/clusters.md.)
set -eu
scheduler=$1 id=$2

# What the scheduler says of the job; $1: how it says that it knows none of this number.
ask() {
    unknown=$1
    shift
    if said=$("$@" 2>&1); then
        return
    fi
    case $said in
    *"$unknown"*) echo failed ;;
    *) echo running ;;
    esac
    exit
}

case $scheduler in
pbs) # -x: jobs that have ended, too
    ask "Unknown Job" qstat -x -f "$id"
    state=$(echo "$said" | sed -n 's/^ *job_state = //p')
    status=$(echo "$said" | sed -n 's/^ *Exit_status = //p')
    case $state:$status in
    F:0) echo success ;;
    F:*) echo failed ;;
    *) echo running ;;
    esac
    ;;
lsf)
    ask "is not found" bjobs -noheader -o stat "$id"
    case $said in
    DONE) echo success ;;
    EXIT | ZOMBI | *"is not found"*) echo failed ;;
    *) echo running ;;
    esac
    ;;
sge)
    if qstat -j "$id" >/dev/null 2>&1; then
        echo running
        exit
    fi
    for _ in 1 2 3 4 5 6 7 8 9 10; do # a job is accounted for some seconds after it has left
        said=$(qacct -j "$id" 2>/dev/null || true)
        [ -z "$said" ] || break
        sleep 3
    done
    ended=$(echo "$said" | awk '/^(failed|exit_status) / { print $2 }' | tr '\n' ' ')
    case $ended in
    "0 0 ") echo success ;;
    *) echo failed ;;
    esac
    ;;
slurm)
    ask "Invalid job id" scontrol --oneliner show job "$id"
    state=${said#*JobState=}
    case ${state%% *} in
    COMPLETED) echo success ;;
    BOOT_FAIL | CANCELLED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | TIMEOUT) echo failed ;;
    *) echo running ;;
    esac
    ;;
*)
    echo "status.sh: $scheduler is none of pbs, lsf, sge, slurm" >&2
    exit 1
    ;;
esac
