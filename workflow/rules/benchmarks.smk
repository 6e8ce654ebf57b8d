# A rule for the stage of each registered benchmark, and a target: the stage for all runs that it
# scores. One that has nothing to do is asked for by nothing.
for benchmark in BENCHMARKS.values():

    rule:
        name:
            benchmark.stage
        input:
            index=DATA.index,
            pretrained=EXPERIMENT.run("{run}").pretrained,
            before=[EXPERIMENT.run("{run}").result(name) for name in benchmark.after],
            others=benchmark.inputs(PARAMS),
        output:
            EXPERIMENT.run("{run}").result(benchmark.name),
        log:
            layout.log(EXPERIMENT.name, benchmark.stage, "{run}"),
        conda:
            "../envs/pipeline.yaml"
        threads: threads_of(benchmark)
        resources:
            mem_mb=lambda wildcards: 4000
            + trainer(wildcards).cache_mib * max(1, trainer(wildcards).workers),
            runtime=1440,
            gres=lambda wildcards: accelerators(1),
        params:
            settings=settings_of(benchmark.stage),
            code=stages.code_sha256(benchmark.stage),
            stage=benchmark.stage,  # the command is put together when the loop is over
        shell:
            "exec python -m pipeline {params.stage} --params $PIPELINE_PARAMS --run {wildcards.run} --log {log}"

    rule:
        name:
            benchmark.done
        input:
            scored(benchmark),
