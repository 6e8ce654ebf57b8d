# A rule for the stage of each registered benchmark on each data set, and a target: the stage for all
# runs that it scores. One that has nothing to do is asked for by nothing.
for benchmark in BENCHMARKS.values():
    for files, on_it in DATA_SETS:
        if files is not DATA and not benchmark.on_further_data:
            continue

        rule:
            name:
                rule_name(benchmark.stage, files)
            input:
                index=files.index,
                pretrained=EXPERIMENT.run("{run}").pretrained,
                before=[run_on(files, "{run}").result(name) for name in benchmark.after],
                others=benchmark.inputs(on_it),
            output:
                run_on(files, "{run}").result(benchmark.name),
            log:
                layout.log(owner_of_scores(files), benchmark.stage, "{run}"),
            conda:
                "../envs/pipeline.yaml"
            threads: threads_of(benchmark)
            resources:
                mem_mb=lambda wildcards: 4000
                + trainer(wildcards).cache_mib * max(1, trainer(wildcards).workers),
                runtime=1440,
                gres=lambda wildcards: accelerators(1),
            params:
                settings=settings_of(benchmark.stage, on_it),
                code=stages.code_sha256(benchmark.stage),
                stage=benchmark.stage,  # the command is put together when the loop is over
                data=files.name,
            shell:
                "exec python -m pipeline {params.stage} --params $PIPELINE_PARAMS --run {wildcards.run} --data {params.data} --log {log}"

    rule:
        name:
            benchmark.done
        input:
            scored(benchmark),
