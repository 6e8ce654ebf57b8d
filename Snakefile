# The whole chain: `snakemake --cores all` makes everything, `snakemake -n` says what is to do.
#
#   manifest -> download -> decode -> shard -> index -> pretrain -> evaluate, segment, severe -> report
#               \_______ once a chunk ______/           \__________ once a run __________/
#
# A rule's input is the manifest of the stage before it; its params are the settings that it reads and
# what its code means: it runs again when one changes. Videos, shards and checkpoints are
# not declared: Snakemake deletes what is before a rerun, and the stages go on from them instead.


include: "workflow/rules/common.smk"
include: "workflow/rules/manifest.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/decode.smk"
include: "workflow/rules/shard.smk"
include: "workflow/rules/index.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/benchmarks.smk"
include: "workflow/rules/report.smk"


# Targets to stop at: `snakemake --cores all pretrained`.
rule downloaded:
    input:
        per_chunk(layout.DataLayout.downloaded),


rule decoded:
    input:
        per_chunk(layout.DataLayout.decoded),


rule sharded:
    input:
        per_chunk(layout.DataLayout.sharded),


rule data:
    input:
        [files.index for files, _ in ASKED_FOR],


rule pretrained:
    input:
        [run.pretrained for run in RUNS],


# Every manifest of the chain: with the report alone, Snakemake finds nothing to do where the
# report is there and a manifest before it is not.
rule all:
    default_target: True
    input:
        [files.manifest for files, _ in ASKED_FOR],
        rules.downloaded.input,
        rules.decoded.input,
        rules.sharded.input,
        [path for files, _ in ASKED_FOR for path in (files.index, files.pictures)],
        rules.pretrained.input,
        SCORED,
        rules.report.output,
