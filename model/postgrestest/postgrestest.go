// Package postgrestest gives tests a PostgreSQL of their own, where it is installed: a
// cluster in a temporary folder, reached through a socket in there, started when the
// first test asks for it and gone when the tests end, however they end.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fenc/config/need"
)

// role is the one that owns everything.
const role = "fenc"

const (
	startTimeout = time.Minute // how long a cluster may take to answer
	stopTimeout  = time.Minute // and to end
	pause        = 20 * time.Millisecond
)

// own is the cluster of Database.
var own struct {
	once    sync.Once
	managed bool
	cluster *Cluster
	err     error

	mu sync.Mutex
	of map[string]string // database by folder
}

// Main runs the tests of a package that use Database, and ends its cluster:
//
//	func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }
func Main(m *testing.M) int {
	own.managed = true
	code := m.Run()
	if own.cluster != nil {
		if err := own.cluster.remove(); err != nil {
			fmt.Fprintln(os.Stderr, "postgrestest:", err)
			code = max(code, 1)
		}
	}
	return code
}

// Database returns the address of a new, empty database. The test is skipped where
// PostgreSQL is not installed.
func Database(t testing.TB) string {
	t.Helper()
	return Own(t).Database(t)
}

// Own returns the cluster of the package's tests.
func Own(t testing.TB) *Cluster {
	t.Helper()
	if !own.managed {
		t.Fatal("postgrestest: the package's TestMain must call Main")
	}
	own.once.Do(func() { own.cluster, own.err = start() })
	skip(t, own.err)
	return own.cluster
}

// Variable is that of the environment which, where it is set, has suites that are about
// something else run with their catalogues in PostgreSQL: see Catalogue.
const Variable = "FENC_TEST_POSTGRES"

// Catalogue returns what a test names its catalogue by: a file in dir or, where
// Variable is set, a database, which is the same one whenever dir is.
func Catalogue(t testing.TB, dir string) string {
	t.Helper()
	if os.Getenv(Variable) == "" {
		return filepath.Join(dir, "fenc.db")
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	if own.of == nil {
		own.of = make(map[string]string)
	}
	if own.of[dir] == "" {
		own.of[dir] = Database(t)
	}
	return own.of[dir]
}

// Start starts a cluster for one test, with settings such as "wal_level=logical".
func Start(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	c, err := start(settings...)
	skip(t, err)
	t.Cleanup(func() {
		if err := c.remove(); err != nil {
			t.Error("postgrestest:", err)
		}
	})
	return c
}

var errNone = errors.New("PostgreSQL is not installed")

func skip(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, errNone):
		need.Skip(t, "no initdb and postgres here (Debian: apt-get install postgresql)")
	case err != nil:
		t.Fatal("postgrestest: ", err)
	}
}

// Cluster is a running PostgreSQL.
type Cluster struct {
	bin, dir string
	settings []string
	number   atomic.Int64 // of the newest database

	mu      sync.Mutex
	process *process
}

// programs finds the folder of initdb and postgres.
func programs() (string, error) {
	folders, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // where Debian has them
	slices.Reverse(folders)
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real // its folder has the other programs
		}
		folders = slices.Insert(folders, 0, filepath.Dir(path))
	}
	for _, dir := range folders {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	return "", errNone
}

func start(settings ...string) (_ *Cluster, err error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := newFolder()
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin, dir: dir, settings: settings}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.remove())
		}
	}()
	// A language whose order is not that of the bytes, where there is one.
	for _, locale := range [][]string{{"--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"}, {"--locale=C"}} {
		args := append([]string{"--pgdata", c.data(), "--username", role, "--auth=trust", "--encoding=UTF8", "--no-sync"}, locale...)
		made := exec.Command(filepath.Join(bin, "initdb"), args...)
		made.Dir = dir
		made.SysProcAttr = attributes()
		var text []byte
		if text, err = made.CombinedOutput(); err == nil {
			break
		}
		err = fmt.Errorf("initdb: %w: %s", err, text)
		if cleared := os.RemoveAll(c.data()); cleared != nil {
			return nil, cleared
		}
	}
	if err != nil {
		return nil, err
	}
	return c, c.Run()
}

func newFolder() (string, error) {
	dir, err := os.MkdirTemp("", "fenc-postgres-")
	if err != nil {
		return "", err
	}
	return dir, give(dir)
}

// Program is the path of another of PostgreSQL's programs.
func (c *Cluster) Program(name string) string { return filepath.Join(c.bin, name) }

// Folder is where the socket of the cluster is: the host, to PostgreSQL's programs.
func (c *Cluster) Folder() string { return c.dir }

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// writable is what an address of several clusters ends with: the one that can be written
// to is meant.
const writable = "&target_session_attrs=read-write"

// Address is the address of a database of the cluster, and of others that may take its
// place.
func (c *Cluster) Address(database string, others ...*Cluster) string {
	hosts := c.dir
	for _, o := range others {
		hosts += "," + o.dir
	}
	address := fmt.Sprintf("postgres://%s@/%s?host=%s", role, database, url.QueryEscape(hosts))
	if len(others) > 0 {
		address += writable
	}
	return address
}

// Database makes a new, empty database and returns its address.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	return c.Address(c.Create(t))
}

// Create makes a new, empty database and returns its name.
func (c *Cluster) Create(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", c.number.Add(1))
	if err := c.exec("CREATE DATABASE " + name); err != nil {
		t.Fatal("postgrestest: ", err)
	}
	return name
}

// Exec runs a statement as the owner of all databases.
func (c *Cluster) Exec(t testing.TB, statement string) {
	t.Helper()
	if err := c.exec(statement); err != nil {
		t.Fatal("postgrestest: ", err)
	}
}

func (c *Cluster) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.Address("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// ask runs a query whose answer is a number.
func (c *Cluster) ask(query string) (n int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.Address("postgres"))
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, query).Scan(&n)
	return n, errors.Join(err, conn.Close(ctx))
}

// Run starts the cluster, if it does not run, and returns when it answers.
func (c *Cluster) Run() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		return nil
	}
	args := []string{"-D", c.data(), "-k", c.dir}
	// fsync: what these tests are about does not outlive the machine.
	for _, s := range append([]string{"listen_addresses=", "fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=200"}, c.settings...) {
		args = append(args, "-c", s)
	}
	p, err := run(filepath.Join(c.bin, "postgres"), filepath.Join(c.dir, "log"), args)
	if err != nil {
		return err
	}
	c.process = p
	for end := time.Now().Add(startTimeout); ; {
		err := c.exec("SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			c.process = nil
			return fmt.Errorf("postgres ended: %s", c.log())
		case <-time.After(pause): // it says nowhere that it answers
		}
		if time.Now().After(end) {
			return fmt.Errorf("postgres does not answer: %w: %s", err, c.log())
		}
	}
}

func (c *Cluster) log() string {
	text, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// Stop ends the cluster by a signal: SIGINT is a stop that ends sessions, SIGQUIT
// leaves what is unfinished to the next start, as a crash does. SIGKILL leaves shared
// memory behind, which only a next start on the same data would free.
func (c *Cluster) Stop(signal syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return nil
	}
	p := c.process
	c.process = nil
	err := p.freeze(false) // a frozen process hears no signal
	if sent := p.command.Process.Signal(signal); sent != nil && !errors.Is(sent, os.ErrProcessDone) {
		return errors.Join(err, sent)
	}
	select {
	case <-p.ended:
		return err
	case <-time.After(stopTimeout):
	}
	p.command.Process.Kill()
	<-p.ended
	return errors.Join(err, fmt.Errorf("postgres did not end within %s: %s", stopTimeout, c.log()))
}

// Freeze stops the whole cluster in its tracks, or has it go on.
func (c *Cluster) Freeze(yes bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return nil
	}
	return c.process.freeze(yes)
}

func (c *Cluster) remove() error {
	return errors.Join(c.Stop(syscall.SIGQUIT), os.RemoveAll(c.dir))
}
