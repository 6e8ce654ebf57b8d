for files, on_it in DATA_SETS:

    rule:
        name:
            rule_name("manifest", files)
        input:
            rows=on_it.data.rows_from,
        output:
            files.manifest,
        log:
            layout.log(files.name, "manifest"),
        conda:
            "../envs/pipeline.yaml"
        resources:
            mem_mb=growing(2000),
            runtime=30,
        params:
            data=files.name,
            settings=stages.settings(on_it, "manifest"),
            code=stages.code_sha256("manifest"),
        shell:
            "exec python -m pipeline manifest --params $PIPELINE_PARAMS --data {params.data} --log {log}"
