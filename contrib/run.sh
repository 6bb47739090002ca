#!/usr/bin/env bash
# Install what is missing, build, and run connpipe with the configuration in config/.
# Words behind it go to connpipe: contrib/run.sh check
# shellcheck source=contrib/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install "${packages_to_run[@]}"
configure build -DCMAKE_BUILD_TYPE=Release -DCONNPIPE_TESTS=OFF
build build connpipe
[ $# -gt 0 ] || set -- run
exec build/connpipe --config config "$@"
