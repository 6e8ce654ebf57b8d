rule evaluate:
    input:
        index=DATA.index,
        pretrained=EXPERIMENT.run("{run}").pretrained,
        images=[images.folder for images in PARAMS.evaluation.images],
    output:
        EXPERIMENT.run("{run}").evaluated,
    log:
        layout.log(EXPERIMENT.name, "evaluate", "{run}"),
    conda:
        "../envs/pipeline.yaml"
    threads: lambda wildcards: trainer(wildcards).threads * PARAMS.evaluation.processes
    resources:
        mem_mb=lambda wildcards: 4000
        + trainer(wildcards).cache_mib * max(1, trainer(wildcards).workers),
        runtime=1440,
        gres=lambda wildcards: accelerators(1),
    params:
        settings=lambda wildcards: stages.settings(PARAMS, "evaluate", wildcards.run),
        code=stages.code_sha256("evaluate"),
    shell:
        "exec python -m pipeline evaluate --params $PIPELINE_PARAMS --run {wildcards.run} --log {log}"
