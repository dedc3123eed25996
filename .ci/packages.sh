#!/usr/bin/env bash
# Installs the Debian packages that the tests use, where they are missing.
set -euo pipefail
need=()
have() { command -v "$1" >/dev/null 2>&1; }
have clang || need+=(clang)
have llvm-strip || need+=(llvm)
have ld.lld || need+=(lld)
[ -e /usr/include/bpf/bpf_helpers.h ] || need+=(libbpf-dev)
have chromium || need+=(chromium)
have node || need+=(nodejs)
have npm || need+=(npm)
have sysbench || need+=(sysbench)
have nginx || need+=(nginx-light)
have wrk || need+=(wrk)
have xz || need+=(xz-utils)
have unzip || need+=(unzip)
have setpriv || need+=(util-linux)
have python3 || need+=(python3)
have pip || have pip3 || need+=(python3-pip)
have cc || need+=(gcc)
have musl-gcc || need+=(musl-tools)
if [ ${#need[@]} -gt 0 ]; then
  echo "installing: ${need[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
# For tests of event loops that are not asyncio's own.
python3 -c 'import uvloop' 2>/dev/null ||
  python3 -m pip install -q --disable-pip-version-check --break-system-packages uvloop==0.23.0
echo "all there"
