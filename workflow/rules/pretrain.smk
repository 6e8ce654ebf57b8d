rule pretrain:
    input:
        index=DATA.index,
        code=stages.sources("pretrain"),
    output:
        EXPERIMENT.run("{run}").pretrained,
    log:
        layout.log(EXPERIMENT.name, "pretrain", "{run}"),
    conda:
        "../envs/pipeline.yaml"
    threads: lambda wildcards: trainer(wildcards).threads
    resources:
        mem_mb=lambda wildcards: 4000
        + trainer(wildcards).cache_mib * max(1, trainer(wildcards).workers),
        runtime=10080,
    params:
        settings=lambda wildcards: stages.settings(PARAMS, "pretrain", wildcards.run),
    shell:
        "python -m pipeline pretrain --run {wildcards.run} --log {log}"
