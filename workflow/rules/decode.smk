for files, on_it in DATA_SETS:

    rule:
        name:
            rule_name("decode", files)
        input:
            downloaded=files.downloaded("{chunk}"),
        output:
            files.decoded("{chunk}"),
        log:
            layout.log(files.name, "decode", "{chunk}"),
        conda:
            "../envs/pipeline.yaml"
        resources:
            mem_mb=growing(1000 + on_it.data.decode.memory_limit_mib),
            runtime=720,
        params:
            data=files.name,
            settings=stages.settings(on_it, "decode"),
            code=stages.code_sha256("decode"),
        shell:
            "exec python -m pipeline decode --params $PIPELINE_PARAMS --data {params.data} --chunk {wildcards.chunk} --log {log}"
