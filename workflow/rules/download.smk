for files, on_it in DATA_SETS:

    rule:
        name:
            rule_name("download", files)
        input:
            manifest=files.manifest,
        output:
            files.downloaded("{chunk}"),
        log:
            layout.log(files.name, "download", "{chunk}"),
        conda:
            "../envs/pipeline.yaml"
        resources:
            mem_mb=growing(2000),
            runtime=720,
        params:
            data=files.name,
            settings=stages.settings(on_it, "download"),
            code=stages.code_sha256("download"),
            local_files=local_files_now(files),
        shell:
            "exec python -m pipeline download --params $PIPELINE_PARAMS --data {params.data} --chunk {wildcards.chunk} --log {log}"
