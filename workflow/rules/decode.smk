rule decode:
    input:
        downloaded=DATA.downloaded("{chunk}"),
    output:
        DATA.decoded("{chunk}"),
    log:
        layout.log(DATA.name, "decode", "{chunk}"),
    conda:
        "../envs/pipeline.yaml"
    resources:
        mem_mb=growing(1000 + PARAMS.data.decode.memory_limit_mib),
        runtime=720,
    params:
        settings=stages.settings(PARAMS, "decode"),
        code=stages.code_sha256("decode"),
    shell:
        "exec python -m pipeline decode --params $PIPELINE_PARAMS --chunk {wildcards.chunk} --log {log}"
