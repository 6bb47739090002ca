#!/usr/bin/env bash
# Each header of include/connpipe stands alone, as C11 and as C++17, with warnings as errors and without extensions.
# Usage: check_headers.sh [COMPILER …]; prints what does not compile, exits 1 if there is such.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
[ $# -gt 0 ] || set -- gcc clang

bad=0
for header in include/connpipe/*.h; do
	for compiler in "$@"; do
		for language in "c -std=c11 -Wstrict-prototypes" "c++ -std=c++17"; do
			# shellcheck disable=SC2086
			printf '#include <connpipe/%s>\nextern int not_empty;\n' "$(basename "$header")" |
				"$compiler" -x $language -Iinclude -Wall -Wextra -Werror -pedantic -fsyntax-only - || {
				echo "$header: does not compile with $compiler as $language"
				bad=1
			}
		done
	done
done
exit $bad
