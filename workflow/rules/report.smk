rule report:
    input:
        index=DATA.index,
        pretrained=[run.pretrained for run in RUNS],
        evaluated=[run.evaluated for run in RUNS],
        segmented=[run.segmented for run in RUNS],
        severe=[run.severe for run in RUNS],
        code=stages.sources("report"),
    output:
        evaluation=EXPERIMENT.evaluation,
        metrics=EXPERIMENT.metrics,
        page=EXPERIMENT.report,
    log:
        layout.log(EXPERIMENT.name, "report"),
    conda:
        "../envs/pipeline.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=120,
    params:
        settings=stages.settings(PARAMS, "report"),
    shell:
        "python -m pipeline report --log {log}"
