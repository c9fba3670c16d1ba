#!/usr/bin/env bash
# Installs the LiteLLM proxy into TARGET/venv. usage: install-litellm.sh TARGET
set -euo pipefail
target=${1:?usage: install-litellm.sh TARGET}
version=${LITELLM_VERSION:-1.109.1}

"${PYTHON:-python3}" -m venv "$target/venv"
python="$target/venv/bin/python"
"$python" -m pip install --quiet --no-deps "litellm==$version" packaging

# LiteLLM pins releases of a few packages more tightly than every index serves them, so
# a plain install of litellm[proxy] may not resolve. We take the list from its own
# metadata and loosen only those: the proxy runs with any recent release of them.
"$python" - > "$target/requirements.txt" <<'PY'
from importlib.metadata import requires
from packaging.requirements import Requirement

LOOSE = {"certifi", "litellm-proxy-extras", "litellm-enterprise"}
for line in requires("litellm"):
    wanted = Requirement(line)
    if wanted.marker and not any(wanted.marker.evaluate({"extra": e}) for e in ("", "proxy")):
        continue
    extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
    print(wanted.name + extras + ("" if wanted.name in LOOSE else str(wanted.specifier)))
PY

# No-deps for litellm's own two helpers: they would pull the tight pins in again.
grep -v '^litellm-' "$target/requirements.txt" > "$target/requirements-public.txt"
"$python" -m pip install --quiet -r "$target/requirements-public.txt"
"$python" -m pip install --quiet --no-deps $(grep '^litellm-' "$target/requirements.txt")
# The price list comes from the package: this machine may have no way to the outside.
LITELLM_LOCAL_MODEL_COST_MAP=True "$python" -c 'import litellm.proxy.proxy_server' > /dev/null
echo "litellm $version is in $target"
