#!/bin/sh
# cluster.sh: three replicas of fenc serve on PostgreSQL and an S3 store behind a
# balancer, all on the loopback address of this machine.
#
# Builds fenc and the S3 server in a temporary folder, starts everything, sends large
# and small files, kills one replica with the files under way, stops another as an
# operator would, and shows that nothing was lost. It needs Go, and PostgreSQL (initdb
# and postgres) and haproxy, which Debian has, and leaves nothing behind. CLUSTER_PORT
# is the first of twenty ports, 17600 unless it says otherwise.
#
#   cluster.sh COMMAND... starts everything, runs COMMAND in the temporary folder instead,
#   where ./fenc is and a client has joined, with the balancer's port in CLUSTER_PORT and the
#   replicas' process ids in CLUSTER_REPLICAS, and ends as it does.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
port=${CLUSTER_PORT:-17600}
work=$(mktemp -d)
chmod 711 "$work" # PostgreSQL, which does not run as root, has a folder in it
pids=
cleanup() {
	for pid in $pids; do kill "$pid" 2>/dev/null || true; done
	for pid in $pids; do wait "$pid" 2>/dev/null || true; done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s\n' "$*"; }
fail() {
	tail -n 20 ./*.log 2>/dev/null || true
	printf '%s\n' "$*" >&2
	exit 1
}

# until_ SECONDS COMMAND waits until the command succeeds.
until_() {
	tries=$(($1 * 10)) && shift
	while ! "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || fail "waited in vain for: $*"
		sleep 0.1
	done
}

initdb=$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null | tail -1) || true
[ -n "$initdb" ] || fail "initdb is not here: install postgresql"
bin=$(dirname "$(readlink -f "$initdb")")
command -v haproxy >/dev/null || fail "haproxy is not here: install it"

say "build fenc and the S3 server"
(cd "$project" && CGO_ENABLED=0 go build -o "$work/fenc" .)
s3=$(cd "$here" && CGO_ENABLED=0 go tool -n versitygw)

# Nothing of the user's own settings takes part.
HOME=$work XDG_CONFIG_HOME=$work/config XDG_CACHE_HOME=$work/cache
export HOME XDG_CONFIG_HOME XDG_CACHE_HOME
unset $(env | sed -n 's/^\(\(FENC\|AWS\|PG\)[A-Z_]*\)=.*/\1/p') 2>/dev/null || true
cd "$work"

say "PostgreSQL at 127.0.0.1:$((port + 1))"
mkdir -m 700 postgres
as=
if [ "$(id -u)" = 0 ]; then
	chown nobody postgres
	as='setpriv --reuid=nobody --regid=nogroup --clear-groups'
fi
$as "$bin/initdb" -D "$work/postgres/data" -U fenc -A trust --no-locale -E UTF8 >postgres.log 2>&1 || { cat postgres.log; exit 1; }
$as "$bin/postgres" -D "$work/postgres/data" -h 127.0.0.1 -p $((port + 1)) -k '' >>postgres.log 2>&1 &
pids="$pids $!"
until_ 60 "$bin/psql" -h 127.0.0.1 -p $((port + 1)) -U fenc -d postgres -c 'CREATE DATABASE fenc'

say "S3 server at 127.0.0.1:$((port + 2))"
umask 077
head -c 24 /dev/urandom | base64 | tr -d '\n' >s3.secret
mkdir -p s3/meta s3/data/fenc
ROOT_ACCESS_KEY=fenc ROOT_SECRET_KEY=$(cat s3.secret) "$s3" --port "127.0.0.1:$((port + 2))" posix --sidecar "$work/s3/meta" "$work/s3/data" >s3.log 2>&1 &
pids="$pids $!"

# The files of this folder, with addresses of this machine.
sed -e "s/^listen .*//" -e "s/^advertise .*/advertise = \"127.0.0.1:$port\"/" -e 's/^proxy_protocol_from .*/proxy_protocol_from = ["127.0.0.1"]/' \
	-e "s/postgres:5432/127.0.0.1:$((port + 1))/" -e "s/s3:7070/127.0.0.1:$((port + 2))/" -e 's/^metrics_listen .*//' -e 's#"s3.secret"#"../s3.secret"#' "$here/server.toml" >common.toml
start() { # NUMBER
	mkdir "replica$1"
	[ "$1" = 1 ] || cp replica1/server.key "replica$1"
	{ echo "listen = \"127.0.0.1:$((port + 10 + $1))\""; echo "metrics_listen = \"127.0.0.1:$((port + 15 + $1))\""; cat common.toml; } >"replica$1/server.toml"
	./fenc serve --config "replica$1/server.toml" 2>"replica$1.log" &
	eval "replica$1=$!"
	pids="$pids $!"
}

say "three replicas"
start 1
until_ 30 grep -q msg=listening replica1.log # it makes the tables, and the key that all have
start 2
start 3
for n in 2 3; do until_ 30 grep -q msg=listening replica$n.log; done

say "balancer at 127.0.0.1:$port"
sed -e "s/bind :1234/bind 127.0.0.1:$port/" -e 's/ port 9090//' \
	-e "s/server one .*/server one 127.0.0.1:$((port + 11)) port $((port + 16))/" \
	-e "s/server two .*/server two 127.0.0.1:$((port + 12)) port $((port + 17))/" \
	-e "s/server three .*/server three 127.0.0.1:$((port + 13)) port $((port + 18))/" "$here/haproxy.cfg" >haproxy.cfg
haproxy -f haproxy.cfg -db >haproxy.log 2>&1 &
pids="$pids $!"

say "invite a client at one replica, which joins through the balancer"
./fenc invite --config replica2/server.toml --name grace >invite
until_ 30 sh -c './fenc join <invite >join.log 2>&1'

if [ $# -gt 0 ]; then
	export CLUSTER_PORT=$port CLUSTER_REPLICAS="$replica1 $replica2 $replica3"
	status=0
	"$@" || status=$?
	exit $status
fi

say "send 2,000 small files and 256 MiB, and kill a replica meanwhile"
mkdir -p sent/small
i=0
while [ $i -lt 2000 ]; do
	echo "small file $i" >"sent/small/$i"
	i=$((i + 1))
done
head -c 268435456 /dev/urandom >sent/large
./fenc send --retry-for 2m sent >send.log 2>&1 &
send=$!
pids="$pids $send"
sleep 1
kill -KILL "$replica1"
echo "replica 1 is killed"
wait "$send" || { cat send.log replica*.log; exit 1; }
tail -1 send.log

say "stop another as an operator does, and send again: all is there"
kill -TERM "$replica2"
wait "$replica2" || { cat replica2.log; exit 1; }
./fenc send --retry-for 2m sent | tail -1

say "get everything back through the third, and compare"
./fenc get --dir back sent | tail -1
diff -r sent back/sent
./fenc check --config replica3/server.toml --deep

say "nothing was lost"
