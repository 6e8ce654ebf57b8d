rule manifest:
    input:
        rows=PARAMS.data.rows_from,
    output:
        DATA.manifest,
    log:
        layout.log(DATA.name, "manifest"),
    conda:
        "../envs/pipeline.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=30,
    params:
        settings=stages.settings(PARAMS, "manifest"),
        code=stages.code_sha256("manifest"),
    shell:
        "exec python -m pipeline manifest --params $PIPELINE_PARAMS --log {log}"
