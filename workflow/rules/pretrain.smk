rule pretrain:
    input:
        pictures=DATA.pictures,
        weights=weights_of,
        needed=needed_first,
    output:
        EXPERIMENT.run("{run}").pretrained,
    log:
        layout.log(EXPERIMENT.name, "pretrain", "{run}"),
    conda:
        "../envs/pipeline.yaml"
    threads:
        lambda wildcards: trainer(wildcards).threads
        * (trainer(wildcards).devices if trainer(wildcards).nodes == 1 else 1)
    resources:
        mem_mb=lambda wildcards: trainer(wildcards).devices
        * (4000 + trainer(wildcards).cache_mib * max(1, trainer(wildcards).workers)),
        runtime=10080,
        mpi=several_nodes(lambda trainer: "srun"),
        nodes=several_nodes(lambda trainer: trainer.nodes),
        tasks_per_node=several_nodes(
            lambda trainer: trainer.devices if trainer.devices > 1 else None
        ),
        tasks=several_nodes(lambda trainer: trainer.nodes if trainer.devices == 1 else None),
        tasks_per_gpu=several_nodes(lambda trainer: 0),  # 0: Slurm is told the tasks, and no more
        gres=lambda wildcards: accelerators(
            trainer(wildcards).devices if trainer(wildcards).epochs else 0
        ),
    params:
        settings=settings_of("pretrain", PARAMS),
        code=stages.code_sha256("pretrain"),
    # One command, whatever the resources: it starts `trainer.devices` processes of its own, and on
    # several nodes it calls srun (pipeline/runtime/launch.py). `exec`: Slurm signals every process
    # of a job, and a shell in between would die of what the training has to answer.
    shell:
        "exec python -m pipeline pretrain --params $PIPELINE_PARAMS --run {wildcards.run} --log {log}"
