#!/usr/bin/env bash
# Everything that is tested, from an empty clone on: installs what is missing, builds with gcc and clang and with
# sanitizers, runs all tests. The last line is "N passed, M failed"; exits 1 if something failed.
#   --long   slower variants too: more fuzzing, scenario tests under every sanitizer
# shellcheck source=contrib/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

long=
for word in "$@"; do
	case $word in
	--long) long=1 ;;
	*)
		say "contrib/test.sh knows --long, not \"$word\""
		exit 2
		;;
	esac
done

passed=0
failed=0
failures=()
mkdir -p build-test
log=build-test/log
fuzz_seconds=${long:+120}
fuzz_seconds=${fuzz_seconds:-10}

pass() {
	passed=$((passed + ${1:-1}))
}

fail() {
	failed=$((failed + 1))
	failures+=("$1")
	say "FAILED: $1"
}

# step NAME COMMAND …: one thing that works or does not.
step() {
	local name=$1
	shift
	say "== $name"
	if "$@" </dev/null; then pass; else fail "$name"; fi
}

# tests NAME COMMAND …: something that runs tests and ends with "N passed, M failed". If it ends otherwise, that is a
# failure of its own.
tests() {
	local name=$1 result
	shift
	say "== $name"
	"$@" </dev/null 2>&1 | tee "$log" >&2 || true
	result=$(grep -oE '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
	if [ -z "$result" ]; then
		fail "$name: did not end"
		return
	fi
	pass "${result%% passed*}"
	result=${result#*, }
	[ "${result%% *}" = 0 ] || {
		failed=$((failed + ${result%% *}))
		failures+=("$name")
	}
}

# Unit tests of a build directory by ctest, several programs at once: much of their time they wait. More arguments are
# ctest's.
unit_tests() {
	local directory=$1 summary total bad
	shift
	summary=$(cd "$directory" && ctest --output-on-failure --timeout 180 --parallel "$((2 * $(nproc)))" "$@" 2>&1) || true
	printf '%s\n' "$summary" | grep -vE '^ *[0-9]+/[0-9]+ Test.*Passed|Start +[0-9]+:' || true
	total=$(sed -nE 's/.*tests failed out of ([0-9]+).*/\1/p' <<<"$summary")
	bad=$(sed -nE 's/.*, ([0-9]+) tests failed out of.*/\1/p' <<<"$summary")
	[ -n "$total" ] && echo "$((total - bad)) passed, $bad failed"
}

compile() {
	local directory=$1
	shift
	configure "$directory" -DCONNPIPE_WERROR=ON "$@" && build "$directory"
}

compile_fuzz() {
	configure build-fuzz -DCONNPIPE_WERROR=ON -DCMAKE_BUILD_TYPE=Debug "${clang[@]}" -DCONNPIPE_FUZZ=ON \
		-DCONNPIPE_SANITIZE=address,undefined && build build-fuzz "${fuzz_names[@]/#/fuzz_}"
}

# Each target of tests/fuzz on its corpus, and on from there for SECONDS.
fuzz_tests() {
	local seconds=$1 name good=0 bad=0 found
	for name in "${fuzz_names[@]}"; do
		found=$(find build-fuzz -name "fuzz_$name" -type f -perm -u+x | head -n 1)
		if [ -z "$found" ]; then
			echo "no program fuzz_$name was built"
			bad=$((bad + 1))
			continue
		fi
		mkdir -p "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name"
		if "$found" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
			-artifact_prefix=build-fuzz/ "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" >build-fuzz/"$name".log 2>&1; then
			good=$((good + 1))
		else
			tail -n 40 "build-fuzz/$name.log"
			bad=$((bad + 1))
		fi
	done
	echo "$good passed, $bad failed"
}

scenario_tests() {
	local directory=$1
	shift
	CONNPIPE="$directory/connpipe" CONNPIPE_TEST_LONG="$long" python3 tests/scenario/run "$@"
}

install "${packages_to_test[@]}"

# What sanitizers find ends the program, so that the test that is running fails.
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1

step "includes" tests/check_includes.sh
step "headers as C11 and C++17" tests/check_headers.sh gcc clang

clang=(-DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++)
step "build with gcc" compile build-gcc -DCMAKE_BUILD_TYPE=Release
step "build with clang" compile build-clang -DCMAKE_BUILD_TYPE=Debug "${clang[@]}"
step "build with AddressSanitizer" compile build-asan -C contrib/presets/asan.cmake
step "build with ThreadSanitizer" compile build-tsan -C contrib/presets/tsan.cmake

for kind in gcc clang asan; do
	tests "unit tests, $kind" unit_tests "build-$kind"
done
# What runs on one thread only is left out here, unless there is time.
one_thread='unit/(address|config|table)|fuzz/'
if [ -n "$long" ]; then one_thread='^$'; fi
tests "unit tests, tsan" unit_tests build-tsan -E "$one_thread"
tests "scenario tests, gcc" scenario_tests build-gcc
tests "scenario tests, asan" scenario_tests build-asan
if [ -n "$long" ]; then
	tests "scenario tests, tsan" scenario_tests build-tsan
else
	tests "scenario tests, tsan" scenario_tests build-tsan storm life edges balance
fi
if [ -n "$long" ]; then
	tests "scenario tests, clang" scenario_tests build-clang
	step "counted instructions" tests/bench/instructions build-gcc/connpipe
fi

fuzz_names=()
for file in tests/fuzz/*.c; do
	[ "$file" = tests/fuzz/driver.c ] || fuzz_names+=("$(basename "$file" .c)")
done
step "build the fuzz targets" compile_fuzz
tests "fuzz targets" fuzz_tests "$fuzz_seconds"

for name in "${failures[@]}"; do
	say "failed: $name"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
