# Not declared: shards/clips.arrow. A data set that was indexed before there was one is read without,
# and need not be indexed again for it.
for files, on_it in DATA_SETS:

    rule:
        name:
            rule_name("index", files)
        input:
            sharded=[files.sharded(chunk) for chunk in range(on_it.data.chunks)],
        output:
            index=files.index,
            pictures=files.pictures,
        log:
            layout.log(files.name, "index"),
        conda:
            "../envs/pipeline.yaml"
        resources:
            mem_mb=growing(4000),
            runtime=60,
        params:
            data=files.name,
            settings=stages.settings(on_it, "index"),
            code=stages.code_sha256("index"),
        shell:
            "exec python -m pipeline index --params $PIPELINE_PARAMS --data {params.data} --log {log}"
