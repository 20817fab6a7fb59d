#!/bin/sh
# Installs, upgrades or removes HyperMesh's program and the agent's service from
# the directory that this script is in. It fetches nothing. What it installs is
# checked against SHA256SUMS first; compare that file's own digest with the one
# that was published, for a thief who changes one file changes the other.
set -eu

usage() {
	cat <<'TEXT'
usage: install.sh [--root DIR] [--prefix DIR] [--no-user]
       install.sh --uninstall [--purge] [--root DIR] [--prefix DIR]

  --prefix DIR   the program goes to DIR/bin (/usr/local)
  --root DIR     install below DIR instead of / (for images; makes no user, starts nothing)
  --no-user      make no user hypermesh
  --uninstall    remove the program, the unit and the settings; keep keys, config and data
  --purge        with --uninstall: remove /var/lib/hypermesh too, with the node's key
TEXT
}

say() { printf '%s\n' "$*"; }
die() {
	printf 'install.sh: %s\n' "$*" >&2
	exit 1
}

root='' prefix=/usr/local user=yes action=install purge=no
while [ $# -gt 0 ]; do
	case $1 in
	--root) [ $# -ge 2 ] || die "--root wants a directory"; root=${2%/}; shift ;;
	--prefix) [ $# -ge 2 ] || die "--prefix wants a directory"; prefix=${2%/}; shift ;;
	--no-user) user=no ;;
	--uninstall) action=uninstall ;;
	--purge) purge=yes ;;
	-h | --help) usage; exit 0 ;;
	*) usage >&2; die "unknown argument $1" ;;
	esac
	shift
done
case $prefix in
/*) ;;
*) die "--prefix is $prefix, want an absolute path" ;;
esac
case $root in
'' | /*) ;;
*) die "--root is $root, want an absolute path" ;;
esac
[ "$purge" = no ] || [ "$action" = uninstall ] || die "--purge goes with --uninstall"

from=$(cd "$(dirname "$0")" && pwd)
program=$root$prefix/bin/hypermesh
unit=$root/etc/systemd/system/hypermesh-agent.service
settings=$root/etc/sysctl.d/90-hypermesh.conf
data=$root/var/lib/hypermesh
live=no
if [ -z "$root" ]; then
	[ "$(id -u)" -eq 0 ] || die "must run as root, or with --root DIR"
	if [ -d /run/systemd/system ]; then live=yes; fi
fi

# verify FILE...: every file is listed in SHA256SUMS and as it says there.
verify() {
	[ -f "$from/SHA256SUMS" ] || die "$from/SHA256SUMS is missing: the package is not whole"
	for file in "$@"; do
		[ -f "$from/$file" ] || die "$from/$file is missing: the package is not whole"
		want=$(sed -n "s/^\([0-9a-f]\{64\}\)  *\**$file\$/\1/p" "$from/SHA256SUMS")
		[ -n "$want" ] || die "SHA256SUMS does not list $file"
		got=$(sha256sum <"$from/$file" | cut -d ' ' -f 1)
		[ "$got" = "$want" ] || die "$file does not match SHA256SUMS: it has $got, want $want. Nothing was installed"
	done
}

# put SOURCE TARGET MODE: replaces a file, whole or not at all; says what it did.
changed=no
put() {
	if [ -f "$2" ] && cmp -s "$1" "$2"; then
		say "unchanged  $2"
		return
	fi
	mkdir -p "$(dirname "$2")"
	cp "$1" "$2.new"
	chmod "$3" "$2.new"
	mv -f "$2.new" "$2"
	changed=yes
	say "installed  $2"
}

remove() {
	for file in "$@"; do
		[ -e "$file" ] || continue
		rm -f "$file"
		say "removed    $file"
	done
}

install_all() {
	verify hypermesh hypermesh-agent.service
	[ "$(uname -s)" = Linux ] || die "this is $(uname -s), and the program is for Linux"
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
	printf '# QUIC bursts: room for UDP sockets.\nnet.core.rmem_max = 7500000\nnet.core.wmem_max = 7500000\n' >"$scratch/settings"
	sed "s|^ExecStart=/usr/local/bin/|ExecStart=$prefix/bin/|" "$from/hypermesh-agent.service" >"$scratch/unit"
	if [ -z "$root" ] && [ "$user" = yes ] && ! id hypermesh >/dev/null 2>&1; then
		useradd --system --create-home --home-dir /var/lib/hypermesh --shell /bin/bash hypermesh
		say "made       user hypermesh"
	fi
	put "$from/hypermesh" "$program" 755
	put "$scratch/unit" "$unit" 644
	put "$scratch/settings" "$settings" 644
	if [ -n "$root" ]; then mkdir -p "$data"; fi
	if [ "$live" = yes ]; then
		sysctl -q --load "$settings" || say "the settings of $settings count from the next boot on"
		systemctl daemon-reload
	fi
	"$program" --version >/dev/null || die "$program does not run on this machine"
	if [ "$changed" = no ]; then
		say "everything was there already"
	elif [ "$live" = yes ] && systemctl -q is-active hypermesh-agent; then
		say "the agent runs the old program until: hypermesh agent drain --home $data/agent && systemctl restart hypermesh-agent && hypermesh agent resume --home $data/agent"
	else
		say "next: sudo -u hypermesh hypermesh agent init --home $data/agent … (docs/PROVIDER.md), then systemctl enable --now hypermesh-agent"
	fi
}

uninstall_all() {
	if [ "$live" = yes ]; then
		systemctl disable --now hypermesh-agent 2>/dev/null || true
	fi
	remove "$program" "$unit" "$settings"
	if [ "$live" = yes ]; then systemctl daemon-reload; fi
	if [ "$purge" = yes ]; then
		if [ -d "$data" ]; then
			rm -rf "$data"
			say "removed    $data"
		fi
	elif [ -d "$data" ]; then
		say "kept       $data: the node's key, config and data (--purge removes them)"
	fi
}

case $action in
install) install_all ;;
uninstall) uninstall_all ;;
esac
