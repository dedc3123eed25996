#!/bin/sh
# Rebuilds timesink.bpf.o. Needs clang, llvm-strip and the headers of libbpf-dev; the same
# compiler gives the same bytes, wherever the sources lie. `build.sh FILE` writes elsewhere.
set -eu
cd "$(dirname "$0")"
out=${1:-timesink.bpf.o}
include=/usr/include/$(uname -m)-linux-gnu
clang -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-declarations \
	-Wno-unknown-attributes -D__TARGET_ARCH_x86 -isystem "$include" -ffile-prefix-map="$PWD"=. \
	-fdebug-compilation-dir=. -c timesink.bpf.c -o "$out"
llvm-strip -g "$out"
