#!/usr/bin/env bash
# Everything that is tested, from an empty clone on: installs what is missing, builds with gcc, with clang and
# AddressSanitizer, and with ThreadSanitizer, runs all tests. The last line is "N passed, M failed"; exits 1 if something
# failed.
#   --long   slower variants too: more fuzzing, scenario tests under every sanitizer, clang's release build
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
mkdir -p build-test build-fuzz
log=build-test/log
fuzz_seconds=${long:+600}
fuzz_seconds=${fuzz_seconds:-60}

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

# fuzz NAME SECONDS: one target of tests/fuzz on its corpus, and on from there.
fuzz() {
	local name=$1 seconds=$2 program=build-asan/tests/fuzz_$1
	rm -f "build-fuzz/$name.passed"
	mkdir -p "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name"
	nice -n 19 timeout --foreground --kill-after=10 "$((seconds + 120))" "$program" -max_total_time="$seconds" \
		-rss_limit_mb=2048 -timeout=25 -print_final_stats=1 -artifact_prefix="build-fuzz/$name-" \
		"build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" >"build-fuzz/$name.log" 2>&1 </dev/null &&
		touch "build-fuzz/$name.passed"
}

# Each target for SECONDS, as many at once as there are processors. This runs beside the scenario tests, which wait more
# than they compute, and takes what they leave: the lowest priority, so that they are not slowed down by it.
fuzz_tests() {
	local seconds=$1 name
	set +m
	for name in "${fuzz_names[@]}"; do
		while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n || true; done
		fuzz "$name" "$seconds" &
	done
	wait
}

# What came of it.
fuzz_results() {
	local name good=0 bad=0
	for name in "${fuzz_names[@]}"; do
		if [ -f "build-fuzz/$name.passed" ]; then
			good=$((good + 1))
		else
			echo "fuzz target $name:"
			tail -n 40 "build-fuzz/$name.log"
			bad=$((bad + 1))
		fi
	done
	echo "$good passed, $bad failed"
}

# aside NAME COMMAND …: begin it beside what follows, in a process group of its own, so that all of it can be ended. What
# it says is in build-test/NAME when `await NAME` has returned.
declare -A asides
aside() {
	local name=$1
	shift
	set -m
	"$@" </dev/null >"build-test/$name" 2>&1 &
	set +m
	asides[$name]=$!
}

await() {
	wait "${asides[$1]}" || true
	unset "asides[$1]"
}

end_asides() {
	local job
	for job in "${asides[@]}"; do kill -- "-$job" 2>/dev/null || true; done
}
trap end_asides EXIT

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

# With clang come AddressSanitizer, UndefinedBehaviorSanitizer and the fuzz targets: one build for all that it is for.
clang=(-DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++)
step "build with gcc" compile build-gcc -DCMAKE_BUILD_TYPE=Release
step "build with clang and AddressSanitizer" compile build-asan -C contrib/presets/asan.cmake "${clang[@]}" \
	-DCONNPIPE_FUZZ=ON
step "build with ThreadSanitizer" compile build-tsan -C contrib/presets/tsan.cmake
if [ -n "$long" ]; then
	step "build with clang" compile build-clang -DCMAKE_BUILD_TYPE=Release "${clang[@]}"
fi
fuzz_names=()
for file in tests/fuzz/*.c; do
	[ "$file" = tests/fuzz/driver.c ] || fuzz_names+=("$(basename "$file" .c)")
done

for kind in gcc asan ${long:+clang}; do
	tests "unit tests, $kind" unit_tests "build-$kind"
done
# What runs on one thread only is left out here, unless there is time.
one_thread='unit/(address|config|table)|fuzz/'
if [ -n "$long" ]; then one_thread='^$'; fi
tests "unit tests, tsan" unit_tests build-tsan -E "$one_thread"

# Scenarios wait more than they compute: two builds at once, and the fuzz targets take what is left.
aside fuzz fuzz_tests "$fuzz_seconds"
aside scenarios scenario_tests build-asan
tests "scenario tests, gcc" scenario_tests build-gcc
await scenarios
tests "scenario tests, asan" cat build-test/scenarios
if [ -n "$long" ]; then
	tests "scenario tests, tsan" scenario_tests build-tsan
else
	tests "scenario tests, tsan" scenario_tests build-tsan storm life edges balance test_tls.Storm test_tls.Resumption
fi
if [ -n "$long" ]; then
	tests "scenario tests, clang" scenario_tests build-clang
	step "counted instructions" tests/bench/instructions build-gcc/connpipe
fi

await fuzz
tests "fuzz targets" fuzz_results

for name in "${failures[@]}"; do
	say "failed: $name"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
