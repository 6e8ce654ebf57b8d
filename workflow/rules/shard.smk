rule shard:
    input:
        decoded=DATA.decoded("{chunk}"),
        code=stages.sources("shard"),
    output:
        DATA.sharded("{chunk}"),
    log:
        layout.log(DATA.name, "shard", "{chunk}"),
    conda:
        "../envs/pipeline.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=120,
    params:
        settings=stages.settings(PARAMS, "shard"),
    shell:
        "python -m pipeline shard --chunk {wildcards.chunk} --log {log}"
