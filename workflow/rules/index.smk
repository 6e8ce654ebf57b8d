# Not declared: shards/clips.arrow. A data set that was indexed before there was one is read without,
# and need not be indexed again for it.
rule index:
    input:
        sharded=[DATA.sharded(chunk) for chunk in CHUNKS],
    output:
        index=DATA.index,
        pictures=DATA.pictures,
    log:
        layout.log(DATA.name, "index"),
    conda:
        "../envs/pipeline.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=60,
    params:
        settings=stages.settings(PARAMS, "index"),
        code=stages.code_sha256("index"),
    shell:
        "exec python -m pipeline index --params $PIPELINE_PARAMS --log {log}"
