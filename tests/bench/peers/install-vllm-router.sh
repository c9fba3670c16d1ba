#!/usr/bin/env bash
# Installs vllm-router (Rust, with a Python launcher) into TARGET/venv.
# usage: install-vllm-router.sh TARGET
set -euo pipefail
target=${1:?usage: install-vllm-router.sh TARGET}
version=${VLLM_ROUTER_VERSION:-0.1.17}

"${PYTHON:-python3}" -m venv "$target/venv"
"$target/venv/bin/python" -m pip install --quiet "vllm-router==$version"
"$target/venv/bin/vllm-router" --help > /dev/null
echo "vllm-router $version is in $target"
