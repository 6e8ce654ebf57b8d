rule shard:
    input:
        decoded=DATA.decoded("{chunk}"),
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
        code=stages.code_sha256("shard"),
    shell:
        "exec python -m pipeline shard --params $PIPELINE_PARAMS --chunk {wildcards.chunk} --log {log}"
