#!/usr/bin/env bash
# No crate is built in two versions without a reason in .ci/duplicates.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
# `name v1 v2`, from the lines `name v1` and `name v2`.
found=$(cargo tree --workspace --locked --duplicates --depth 0 --prefix none --edges normal,build,dev |
  awk 'NF { print $1, $2 }' | sort -u |
  awk '{ v[$1] = v[$1] " " $2 } END { for (name in v) print name v[name] }' | sort)
# The versions are the words that begin with v and a digit; what follows is the reason, which must be there.
listed=$(awk '/^#/ || !NF { next }
  { line = $1; for (i = 2; i <= NF && $i ~ /^v[0-9]/; i++) line = line " " $i
    if (i > NF) { print "no reason for " $1 > "/dev/stderr"; exit 1 }
    print line }' .ci/duplicates.txt | sort)
if ! diff <(echo "$listed") <(echo "$found"); then
  echo "crates in two versions: < is listed in .ci/duplicates.txt, > is what cargo tree finds."
  echo "Bring the versions together, or list them there with the reason; remove what is gone."
  exit 1
fi
echo "$(echo "$found" | wc -l) crates in two versions, all with a reason"
