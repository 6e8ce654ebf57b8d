for files, on_it in DATA_SETS:

    rule:
        name:
            rule_name("shard", files)
        input:
            decoded=files.decoded("{chunk}"),
        output:
            files.sharded("{chunk}"),
        log:
            layout.log(files.name, "shard", "{chunk}"),
        conda:
            "../envs/pipeline.yaml"
        resources:
            mem_mb=growing(2000),
            runtime=120,
        params:
            data=files.name,
            settings=stages.settings(on_it, "shard"),
            code=stages.code_sha256("shard"),
        shell:
            "exec python -m pipeline shard --params $PIPELINE_PARAMS --data {params.data} --chunk {wildcards.chunk} --log {log}"
