#!/usr/bin/env bash
# Who includes what:
#   systems/*       only <connpipe/…>, their own folder's headers, and what is not ours at all; a part of the core
#                   system that has a folder of its own: "../core/part.h"
#   src/FOLDER/*    besides, only folders before FOLDER in the list CONNPIPE_FOLDERS of CMakeLists.txt
# Prints each line that does otherwise; exits 1 if there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bad=0
complain() {
	printf '%s: %s\n' "$1" "$2"
	bad=1
}

# includes FILE …: "file:line:path" of every #include "…"
includes() {
	[ $# -eq 0 ] || grep -nHoE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"[^"]+"' "$@" |
		sed -E 's/#[[:space:]]*include[[:space:]]*//; s/[[:space:]]*"([^"]+)"/\1/' || true
}

read -ra folders <<<"$(sed -n 's/^set(CONNPIPE_FOLDERS \(.*\))$/\1/p' CMakeLists.txt)"
[ ${#folders[@]} -gt 1 ] || complain CMakeLists.txt "no list CONNPIPE_FOLDERS found"
shopt -s nullglob globstar

below=
for folder in "${folders[@]}"; do
	while IFS=: read -r file line path; do
		[ -n "$file" ] || continue
		case $path in
		*/*/*/*) complain "$file:$line" "\"$path\" reaches too far" ;;
		../*/*)
			other=${path#../}
			other=${other%%/*}
			[[ " $below " == *" $other "* ]] || complain "$file:$line" "\"$path\": src/$folder may not use src/$other"
			;;
		*/*) complain "$file:$line" "\"$path\": write <connpipe/…> or ../folder/…" ;;
		esac
	done < <(includes src/"$folder"/*.{c,h,cpp})
	below="$below $folder"
done
for folder in src/*/; do
	folder=$(basename "$folder")
	[[ " ${folders[*]} " == *" $folder "* ]] || complain "src/$folder" "is not in CONNPIPE_FOLDERS of CMakeLists.txt"
done

while IFS=: read -r file line path; do
	[ -n "$file" ] || continue
	[ "$path" != ../core/part.h ] || continue
	[[ $path != */* && -f $(dirname "$file")/$path ]] ||
		complain "$file:$line" "\"$path\": a system uses <connpipe/…> and its own folder"
done < <(includes systems/**/*.{c,h})

exit $bad
