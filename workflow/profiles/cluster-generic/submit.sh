#!/bin/sh
# Submit a job script and print the job's id alone.
#
#   submit.sh SCHEDULER SCRIPT
#
# What the job needs stands in the script's line of properties, which Snakemake writes. What differs
# between sites of one scheduler (queues, projects, names of parallel environments and of GPUs) is
# read from OPTIONS, which the scheduler's command is given, too:
#   OPTIONS="-q long -P project" snakemake --profile workflow/profiles/cluster-generic
set -eu
scheduler=$1 script=$2

# A property of the job, or the default $2 where it has none.
property() {
    found=$(sed -n "s/^# properties = .*\"$1\": \"\{0,1\}\([A-Za-z0-9_:.-]*\).*/\1/p" "$script")
    echo "${found:-$2}"
}
rule=$(property rule "$(property groupid job)")
cpus=$(property threads 1)
memory=$(property mem_mb 2000)
minutes=$(property runtime 60)
nodes=$(property nodes 1)
gres=$(property gres "")
gpus=${gres##*:}
gpus=${gpus:-0}
if [ "$nodes" != 1 ]; then
    echo "submit.sh: $rule wants $nodes nodes; this profile runs jobs of one (docs/clusters.md)" >&2
    exit 1
fi
mkdir -p logs/cluster
log=$PWD/logs/cluster
hours=$(printf '%02d:%02d:00' $((minutes / 60)) $((minutes % 60)))

# shellcheck disable=SC2086 # OPTIONS are several words
case $scheduler in
pbs) # PBS Pro and OpenPBS print the id
    select="select=1:ncpus=$cpus:mem=${memory}mb"
    [ "$gpus" = 0 ] || select="$select:ngpus=$gpus"
    qsub -N "$rule" -l "$select" -l "walltime=$hours" -j oe -o "$log/" -V ${OPTIONS-} "$script"
    ;;
lsf) # prints: Job <17> is submitted to queue <normal>.
    [ "$gpus" = 0 ] || OPTIONS="-gpu num=$gpus ${OPTIONS-}"
    bsub -J "$rule" -n "$cpus" -R "span[hosts=1] rusage[mem=${memory}MB]" -M "${memory}MB" \
        -W "$minutes" -o "$log/$rule.%J.log" ${OPTIONS-} sh "$script" | sed 's/[^<]*<\([0-9]*\)>.*/\1/'
    ;;
sge) # memory is for each slot; `smp` is the usual name of a parallel environment of one host
    [ "$gpus" = 0 ] || OPTIONS="-l gpu=$gpus ${OPTIONS-}"
    qsub -terse -N "$rule" -pe "${SGE_PE:-smp}" "$cpus" -l "h_vmem=$((memory / cpus))M,h_rt=$hours" \
        -S /bin/sh -cwd -V -j y -o "$log/" ${OPTIONS-} "$script"
    ;;
slurm)
    [ "$gpus" = 0 ] || OPTIONS="--gres=$gres ${OPTIONS-}"
    sbatch --parsable --job-name="$rule" --ntasks=1 --cpus-per-task="$cpus" --mem="${memory}M" \
        --time="$minutes" --output="$log/$rule.%j.log" ${OPTIONS-} "$script"
    ;;
*)
    echo "submit.sh: $scheduler is none of pbs, lsf, sge, slurm" >&2
    exit 1
    ;;
esac
