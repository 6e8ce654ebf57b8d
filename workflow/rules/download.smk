rule download:
    input:
        manifest=DATA.manifest,
    output:
        DATA.downloaded("{chunk}"),
    log:
        layout.log(DATA.name, "download", "{chunk}"),
    conda:
        "../envs/pipeline.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=720,
    params:
        settings=stages.settings(PARAMS, "download"),
        code=stages.code_sha256("download"),
        local_files=local_files_now,
    shell:
        "exec python -m pipeline download --params $PIPELINE_PARAMS --chunk {wildcards.chunk} --log {log}"
