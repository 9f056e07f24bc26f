#!/bin/sh
# quickstart.sh: the main job of fenc from nothing, on this machine alone.
#
# Builds fenc in a temporary directory, starts a server on the loopback address
# with its embedded database, registers a client, sends a file, and shows the
# verified row and the stored file. It needs Go and leaves nothing behind.
set -eu

project=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
server=
cleanup() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	[ -z "$server" ] || wait "$server" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s\n' "$*"; }

say "build fenc"
(cd "$project" && CGO_ENABLED=0 go build -o "$work/fenc" .)
"$work/fenc" version

# Nothing of the user's own settings takes part.
HOME=$work XDG_CONFIG_HOME=$work/config
export HOME XDG_CONFIG_HOME
unset $(env | sed -n 's/^\(FENC_[A-Z_]*\)=.*/\1/p') 2>/dev/null || true
cd "$work"

say "start a server on a free port of 127.0.0.1"
./fenc serve --listen 127.0.0.1:0 --storage files --database fenc.db 2>server.log &
server=$!
address=
for _ in $(seq 100); do
	address=$(sed -n 's/.*msg=listening address=\([^ ]*\).*/\1/p' server.log)
	[ -z "$address" ] || break
	kill -0 "$server" 2>/dev/null || { cat server.log; exit 1; }
	sleep 0.1
done
[ -n "$address" ] || { cat server.log; exit 1; }
echo "listening at $address"

say "first contact: register as grace and send the README"
./fenc send --protocol 3 --server "$address" --name grace "$project/README.md"

say "the same client returns, with the identity it was given (me.toml)"
./fenc send --protocol 3 --server "$address" "$project/LICENSE"

say "the catalogue's rows"
./fenc files

say "the stored files"
ls -l files/grace
cmp "$project/README.md" files/grace/README.md
cmp "$project/LICENSE" files/grace/LICENSE
./fenc files --json | grep -q '"name":"README.md".*"verified":true'
echo "stored content is equal to what was sent, and verified"

say "stop the server"
kill -TERM "$server"
wait "$server"
server=
cat server.log
say "done"
