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
UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1 sh install.sh venv all
venv/bin/python -c "import torch, timm, snakemake, dvc"
