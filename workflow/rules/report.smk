# What `snakemake --report results.zip` shows: docs/report.md. Captions lie in workflow/report.
report: "../report/workflow.rst"


rule report:
    input:
        index=[files.index for files, _ in DATA_SETS],
        pretrained=[run.pretrained for run in RUNS],
        scored=SCORED,
    output:
        evaluation=report(
            EXPERIMENT.evaluation,
            caption="../report/evaluation.rst",
            category="Numbers",
            labels={"file": "evaluation.json", "holds": "all scores of all runs"},
        ),
        metrics=report(
            EXPERIMENT.metrics,
            caption="../report/metrics.rst",
            category="Numbers",
            labels={"file": "metrics.json", "holds": "the scores that DVC shows"},
        ),
        page=report(
            EXPERIMENT.report,
            caption="../report/page.rst",
            category="Report",
            labels={"page": "all of it"},
        ),
        figures=report(
            directory(EXPERIMENT.figures),
            patterns=["{section}.html"],
            caption="../report/section.rst",
            category="Figures",
            labels={"section": "{section}"},
        ),
    log:
        layout.log(EXPERIMENT.name, "report"),
    conda:
        "../envs/pipeline.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=120,
    params:
        settings=stages.settings(PARAMS, "report"),
        code=stages.code_sha256("report"),
    shell:
        "exec python -m pipeline report --params $PIPELINE_PARAMS --log {log}"
