#!/bin/sh
# What both container recipes run, as root on Debian 12: system packages, then the locked ones.
set -eu
cd /opt/pipeline
apt-get update -qq
# ffmpeg: every codec, and the libraries that torchcodec wants; git: for DVC and the provenance.
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    ca-certificates ffmpeg git libarchive-tools make python3.11 python3.11-venv
rm -rf /var/lib/apt/lists/*
python3.11 -m venv venv
# First what installs and builds the others: see the Makefile.
awk '/^[^ #]/ { wanted = /^(uv|setuptools)==/ } wanted' requirements.lock > first.lock
venv/bin/python -m pip install --quiet --no-cache-dir --require-hashes --requirement first.lock
VIRTUAL_ENV=venv venv/bin/uv pip install --quiet --no-cache --require-hashes --no-build-isolation \
    --requirement requirements.lock
venv/bin/python -c "import torch, timm, decord, snakemake, dvc"
