//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fenc/config/need"
	"fenc/model/postgrestest"
)

// One server with its catalogue in PostgreSQL does what one with a file does, and so do
// the commands beside it.
func TestCatalogueInPostgres(t *testing.T) {
	t.Parallel()
	database := postgrestest.Database(t)
	dir := t.TempDir()
	env := []string{"FENC_DATABASE=" + database}
	beside := func(args ...string) result { return start(t, dir, env, args...).result(t) }
	beside("clients").want(t, 1, "no catalogue of fenc is there", "fenc migrate")
	beside("doctor", "serve", "--storage", "files").want(t, 0, "there is no catalogue in postgres://", "fenc migrate makes it")
	beside("migrate").want(t, 0, "tables of version 4 made")
	beside("migrate").want(t, 0, "tables of version 4, as they were")
	server := start(t, dir, nil, "serve", "--database", database, "--storage", "files", "--listen", "127.0.0.1:0")
	addr := server.address(t)
	server.log.await(t, `level=WARN msg="database: fsync is off`, server.ended)

	home := t.TempDir()
	client := func(args ...string) result { return start(t, home, nil, args...).result(t) }
	invite := beside("invite", "--name", "grace")
	invite.want(t, 0, "fenc4-"+addr)
	client("join", "--dir", home, strings.TrimSpace(invite.out)).want(t, 0, "joined "+addr+" as grace")
	write(t, filepath.Join(home, "a.txt"), "hello\n")
	write(t, filepath.Join(home, "big"), strings.Repeat("0123456789abcdef", 200_000))
	client("send", "a.txt", "big").want(t, 0, "a.txt", "big", "verified")
	client("send", "a.txt").want(t, 0, "unchanged")
	client("list").want(t, 0, "a.txt", "big")
	if err := os.Rename(filepath.Join(home, "big"), filepath.Join(home, "sent")); err != nil {
		t.Fatal(err)
	}
	client("get", "big").want(t, 0, "verified")
	got, err := os.ReadFile(filepath.Join(home, "big"))
	sent, sentErr := os.ReadFile(filepath.Join(home, "sent"))
	if err != nil || sentErr != nil || string(got) != string(sent) {
		t.Errorf("got %d bytes back, %v, %v, want %d", len(got), err, sentErr, len(sent))
	}

	beside("clients").want(t, 0, "grace", "2")
	beside("invite", "list").want(t, 0, "grace", "used")
	beside("files").want(t, 0, "a.txt", "big")
	beside("uploads").want(t, 0)
	beside("events").want(t, 0)
	beside("sessions").want(t, 0, "nobody is connected")
	beside("health").want(t, 0, "database: ok")
	beside("clients", "retention", "--keep-versions", "3", "grace").want(t, 0, "grace")
	beside("check", "--deep", "--storage", "files").want(t, 0)
	beside("doctor", "serve", "--storage", "files").want(t, 0, "1 client, 2 files", "fsync is off")
	beside("backup", dir).want(t, 2, "pg_dump")
	beside("check", "--rebuild", "--storage", "files").want(t, 2, "restored from its backup")

	beside("clients", "revoke", "grace").want(t, 0)
	client("send", "sent").want(t, 3, "revoked")

	server.signal(t, syscall.SIGTERM)
	if r := server.result(t); r.status != 0 {
		t.Errorf("the server ended with %d:\n%s", r.status, r.errors)
	}
	// A second server takes over where the first one ended, with the same key.
	server = start(t, dir, env, "serve", "--storage", "files", "--listen", "127.0.0.1:0")
	server.address(t)
	if _, err := os.Stat(filepath.Join(dir, "fenc.db")); err == nil {
		t.Error("there is a SQLite file beside it")
	}
	// Another, empty database is not begun over a storage that has clients' files.
	start(t, dir, nil, "serve", "--database", postgrestest.Database(t), "--storage", "files", "--listen", "127.0.0.1:0").result(t).want(t, 1, "in use")
	server.signal(t, syscall.SIGTERM)
	server.result(t)
	start(t, dir, nil, "serve", "--database", postgrestest.Database(t), "--storage", "files", "--listen", "127.0.0.1:0").result(t).want(t, 2, "the storage has what clients sent")
}

// A database that is away ends no server: files are refused until it is back, and
// clients that try again get theirs there.
func TestPostgresIsAwayWhileClientsSend(t *testing.T) {
	t.Parallel()
	cluster := postgrestest.Start(t)
	dir, home := t.TempDir(), t.TempDir()
	server := start(t, dir, nil, "serve", "--database", cluster.Database(t), "--storage", "files", "--listen", "127.0.0.1:0")
	addr := server.address(t)
	client := func(args ...string) *child { return start(t, home, nil, args...) }
	write(t, filepath.Join(home, "a.txt"), "before\n")
	write(t, filepath.Join(home, "b.txt"), "meanwhile\n")
	client("send", "--server", addr, "--name", "grace", "--accept-new", "a.txt").result(t).want(t, 0, "verified")
	if err := cluster.Stop(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	server.log.await(t, "changes of clients are not seen for now", server.ended)
	sending := client("send", "--server", addr, "--name", "grace", "b.txt")
	sending.log.await(t, "again in|tries again|try again", sending.ended)
	if err := cluster.Run(); err != nil {
		t.Fatal(err)
	}
	sending.result(t).want(t, 0, "b.txt", "verified")
	client("list", "--server", addr).result(t).want(t, 0, "a.txt", "b.txt")
	server.signal(t, syscall.SIGTERM)
	if r := server.result(t); r.status != 0 {
		t.Errorf("the server ended with %d:\n%s", r.status, r.errors)
	}
}

// What is said of a database has no password in it.
func TestPasswordOfTheDatabaseIsNotSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, database := range []string{"postgres://fenc:hunter2@" + need.DeadAddress(t) + "/fenc?sslmode=disable", "postgres://fenc:hunter2%zz@host/fenc"} {
		for _, args := range [][]string{{"clients"}, {"doctor", "serve"}, {"migrate"}} {
			r := start(t, dir, []string{"FENC_DATABASE=" + database}, args...).result(t)
			if r.status == 0 || strings.Contains(r.out+r.errors, "hunter2") {
				t.Errorf("fenc %s: got status %d and %s%s, want an error without the password", args, r.status, r.out, r.errors)
			}
		}
	}
}
