# Shared by contrib/run.sh and contrib/test.sh: what has to be installed, and how a build is made.
# shellcheck shell=bash

set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

packages_to_run=(build-essential cmake pkg-config libevent-dev libc-ares-dev libjansson-dev libluajit-5.1-dev
	libtomlplusplus-dev libssl-dev libzstd-dev libwebsockets-dev libwebsockets-evlib-ev libev-dev zlib1g-dev)
# For `clang -fsanitize=…` the run-time libraries come with libclang-rt of the same version.
# shellcheck disable=SC2034
packages_to_test=("${packages_to_run[@]}" ninja-build clang libclang-rt-14-dev libcriterion-dev python3
	curl iperf3 openssh-client openssh-server redis-server redis-tools # clients of the scenarios
	nginx libnginx-mod-stream haproxy openssl python3-cryptography zstd # peers of the scenarios
	nodejs node-ws python3-websockets chromium # peers of websockets; about 25 s to install, most of it the browser
	iproute2 wireguard-tools wireguard-go # for datagrams through websockets
	valgrind strace # for tests/bench/instructions
	libzmq3-dev python3-zmq) # for contrib/example-zmq

say() {
	printf '%s\n' "$*" >&2
}

# Whether dpkg says that a package is installed.
installed() {
	[ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]
}

# install PACKAGE …: those that are missing, nothing else; costs milliseconds when there are none.
install() {
	local package missing=() root=()
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		say "not a Debian system: these have to be there by other means: $*"
		return
	fi
	for package in "$@"; do
		installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || root=(sudo)
	say "installing ${missing[*]}"
	# The lists of a fresh machine are empty or old; they are fetched only if it does not work without.
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" \
		>&2 </dev/null 2>/dev/null && return 0
	"${root[@]}" apt-get update -qq >&2 </dev/null
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" \
		>&2 </dev/null
}

# configure DIRECTORY [CMAKE-ARGUMENT …]: a build directory keeps the generator that it was made with.
configure() {
	local directory=$1 generator=()
	shift
	if [ ! -f "$directory/CMakeCache.txt" ] && command -v ninja >/dev/null; then
		generator=(-G Ninja)
	fi
	mkdir -p "$directory"
	cmake "${generator[@]}" -S "$top" -B "$directory" "$@" >"$directory/configure.log" 2>&1 || {
		cat "$directory/configure.log" >&2
		return 1
	}
}

# build DIRECTORY [TARGET …]
build() {
	local directory=$1 targets=()
	shift
	[ $# -eq 0 ] || targets=(--target "$@")
	cmake --build "$directory" --parallel "$(nproc)" "${targets[@]}" >"$directory/build.log" 2>&1 || {
		cat "$directory/build.log" >&2
		return 1
	}
}
