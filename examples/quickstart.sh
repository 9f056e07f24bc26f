#!/bin/sh
# quickstart.sh: the main job of fenc from nothing, on this machine alone.
#
# Builds fenc in a temporary directory, starts a server on the loopback address
# with its embedded database, invites a client, sends files and gets them back by
# protocol 4, sends one by protocol 3, and shows the verified rows and the stored
# files. It needs Go and leaves nothing behind.
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
HOME=$work XDG_CONFIG_HOME=$work/config XDG_CACHE_HOME=$work/cache
export HOME XDG_CONFIG_HOME XDG_CACHE_HOME
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

say "on the server: invite grace"
invite=$(./fenc invite --name grace)
echo "$invite"

say "on the client: join by the invite"
echo "$invite" | ./fenc join

say "send a file and a folder"
mkdir -p report/figures
cp "$project/README.md" report/report.md
cp "$project/LICENSE" report/figures/licence.txt
./fenc send "$project/README.md" report

say "send them again: the server has them"
./fenc send "$project/README.md" report

say "list them, and get the folder back"
./fenc list
./fenc get --dir back report
cmp report/report.md back/report/report.md
cmp report/figures/licence.txt back/report/figures/licence.txt

say "the same by protocol 3, under another identity"
./fenc send --protocol 3 --server "$address" --name ada --me ada.toml "$project/LICENSE"

say "the catalogue: clients and files"
./fenc clients
./fenc files

say "the stored files"
find files -name .fenc -prune -o -type f -exec ls -l {} +
cmp "$project/README.md" files/grace/README.md
cmp "$project/LICENSE" files/ada/LICENSE
./fenc files --json | grep -q '"name":"README.md".*"verified":true'
echo "stored content is equal to what was sent, and verified"

say "stop the server"
kill -TERM "$server"
wait "$server"
server=
cat server.log
say "done"
