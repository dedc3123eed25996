#!/usr/bin/env bash
# The checked-in BPF object must be the one that its source gives. Compared byte for byte with what
# clang 14 (Debian 12) makes; another compiler's code is as good but not the same.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p target/bpf
fresh=$PWD/target/bpf/timesink.bpf.o
probes/bpf/build.sh "$fresh"
if ! cmp "$fresh" probes/bpf/timesink.bpf.o; then
  echo "probes/bpf/timesink.bpf.o is not what its source gives with $(clang --version | head -1):"
  echo "run probes/bpf/build.sh with clang 14 and commit the result"
  exit 1
fi
echo "identical"
