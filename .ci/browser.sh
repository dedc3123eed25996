#!/bin/sh
# Puts the browser driver of tests/viewer.rs under target/browser. Needs node, npm and Chromium
# (Debian: apt-get install chromium nodejs npm). May be run again at any time.
set -eu
cd "$(dirname "$0")/.."
version=1.65.1
have=$(node -p "require('./target/browser/node_modules/playwright-core/package.json').version" 2>/dev/null || true)
if [ "$have" != "$version" ]; then
    mkdir -p target/browser
    # The browser itself comes from the system: playwright-core downloads none.
    npm install --prefix target/browser --no-save --no-audit --no-fund "playwright-core@$version"
fi
