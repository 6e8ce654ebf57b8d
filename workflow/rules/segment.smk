rule segment:
    input:
        index=DATA.index,
        pretrained=EXPERIMENT.run("{run}").pretrained,
    output:
        EXPERIMENT.run("{run}").segmented,
    log:
        layout.log(EXPERIMENT.name, "segment", "{run}"),
    conda:
        "../envs/pipeline.yaml"
    threads: lambda wildcards: trainer(wildcards).threads
    resources:
        mem_mb=lambda wildcards: 4000
        + trainer(wildcards).cache_mib * max(1, trainer(wildcards).workers),
        runtime=1440,
        gres=lambda wildcards: accelerators(1),
    params:
        settings=lambda wildcards: stages.settings(PARAMS, "segment", wildcards.run),
        code=stages.code_sha256("segment"),
    shell:
        "exec python -m pipeline segment --params $PIPELINE_PARAMS --run {wildcards.run} --log {log}"
