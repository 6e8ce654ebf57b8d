rule severe:
    input:
        index=DATA.index,
        others=[layout.DataLayout(name).index for name in PARAMS.severe.other_data],
        pretrained=EXPERIMENT.run("{run}").pretrained,
    output:
        EXPERIMENT.run("{run}").severe,
    log:
        layout.log(EXPERIMENT.name, "severe", "{run}"),
    conda:
        "../envs/pipeline.yaml"
    threads: lambda wildcards: trainer(wildcards).threads
    resources:
        mem_mb=lambda wildcards: 4000
        + trainer(wildcards).cache_mib * max(1, trainer(wildcards).workers),
        runtime=1440,
        gres=lambda wildcards: accelerators(1),
    params:
        settings=lambda wildcards: stages.settings(PARAMS, "severe", wildcards.run),
        code=stages.code_sha256("severe"),
    shell:
        "exec python -m pipeline severe --params $PIPELINE_PARAMS --run {wildcards.run} --log {log}"
