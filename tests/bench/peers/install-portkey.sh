#!/usr/bin/env bash
# Installs the Portkey gateway into TARGET/node_modules. usage: install-portkey.sh TARGET
set -euo pipefail
target=${1:?usage: install-portkey.sh TARGET}
version=${PORTKEY_VERSION:-1.15.2}

mkdir -p "$target"
# The override is needed for streaming: with the newer server adapter that npm would
# choose, every streamed reply ends in "TypeError: immutable" (Portkey issue #1389).
cat > "$target/package.json" <<JSON
{
  "private": true,
  "dependencies": { "@portkey-ai/gateway": "$version" },
  "overrides": { "@hono/node-server": "1.13.7" }
}
JSON
cd "$target"
npm install --no-audit --no-fund --loglevel=error
test -f node_modules/@portkey-ai/gateway/build/start-server.js
echo "portkey $version is in $target"
