package model

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/gofrs/flock"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// local is the engine of a catalogue in SQLite.
type local struct {
	c       *Catalogue
	mirror  *mirror
	unclean bool         // the last process did not close the database
	lock    *flock.Flock // nil unless the file is this server's alone

	jobs       chan job
	closed     chan struct{}
	writerDone chan struct{}
}

// openSQLite opens the SQLite database at path, makes it where there is none.
func (c *Catalogue) openSQLite(path string, o Options) (err error) {
	if strings.Contains(path, "://") || strings.HasPrefix(path, "file:") || path == ":memory:" {
		return errors.New("want the path of a SQLite file, such as fenc.db, or postgres://USER@HOST/NAME")
	}
	if o.ReadOnly || o.Beside {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	} else if err := createPrivate(path); err != nil {
		return err
	}
	var lock *flock.Flock
	if o.Sole {
		if lock, err = lockDatabase(path); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, lock.Close())
			}
		}()
	}
	wal, err := os.Stat(path + "-wal") // the last process to close the database removes it
	unclean := err == nil && wal.Size() > 0
	if unclean {
		if err := refuseOtherLog(path); err != nil {
			return err
		}
	}
	db, err := gorm.Open(sqlite.Open(sqliteDSN(path, o.ReadOnly)), gormConfig(o))
	if err != nil {
		return explainDamage(err)
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(1) // SQLite has one writer
	m := &mirror{db: db}
	l := &local{c: c, mirror: m, unclean: unclean, lock: lock, jobs: make(chan job), closed: make(chan struct{}), writerDone: make(chan struct{})}
	c.db, c.view, c.engine = db, m, l
	go l.runWriter()
	return nil
}

// lockDatabase locks the file for this process, under whatever name it was given.
func lockDatabase(path string) (*flock.Flock, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	held, err := lock.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("lock it: %w", err)
	case !held:
		return nil, errors.Join(ErrInUse, lock.Close())
	}
	return lock, nil
}

// refuseOtherLog refuses a copy, as Backup makes it, that was put in the place of a
// database whose log is still there: SQLite would read the one's pages into the other.
// Only a database that has never had a log says of itself that it has none.
//
// See https://sqlite.org/fileformat2.html, 1.3.3, and https://sqlite.org/howtocorrupt.html, 1.4.
func refuseOtherLog(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const magic, legacy = "SQLite format 3\x00", 1
	var header [20]byte
	if _, err := io.ReadFull(f, header[:]); err != nil || string(header[:16]) != magic || header[18] != legacy {
		return nil // what is no database is for SQLite to say
	}
	return fmt.Errorf("it is a copy in the place of another database, whose -wal would be read into it: move %[1]s-wal and %[1]s-shm away, and try again", path)
}

func gormConfig(o Options) *gorm.Config {
	return &gorm.Config{
		TranslateError: true,
		Logger:         logger.Discard, // errors are returned, and gorm's lines would quote values
		NowFunc:        func() time.Time { return o.Now().UTC() },
	}
}

// createPrivate makes sure that the file exists before SQLite opens it, since
// SQLite would make it, its WAL and its journal readable for everybody.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// sqliteDSN names the file as a URI (https://sqlite.org/uri.html), so that no
// character of the path is taken for a parameter, and sets what the promise
// "verified" rests on: WAL with synchronous=FULL. What SQLite would write to
// temporary files, in folders of its own choice, it keeps in memory: of what is
// sorted, all is held there already, and a server may be kept out of such folders.
func sqliteDSN(path string, readOnly bool) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = filepath.ToSlash(abs)
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a Windows drive
	}
	parameters := url.Values{
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "temp_store(MEMORY)"},
		"_txlock": {"immediate"},
	}
	if readOnly {
		parameters["_pragma"] = []string{"busy_timeout(10000)", "query_only(1)"}
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + parameters.Encode()
}

// prepare brings the tables up to date and reads them; after an unclean end it
// checks the database first. Session keys that a crash left behind are emptied.
func (l *local) prepare(o Options) error { return explainDamage(l.prepareTables(o)) }

func (l *local) prepareTables(o Options) error {
	db := l.c.db
	if o.ReadOnly || o.Beside {
		if err := checkSchema(db); err != nil {
			return err
		}
		return l.mirror.readAllClients()
	}
	if l.unclean && o.tablesAlone == nil {
		var verdict string
		if err := db.Raw("PRAGMA quick_check(1)").Scan(&verdict).Error; err != nil {
			return err
		}
		if verdict != "ok" {
			return fmt.Errorf("database is damaged (%s): %s", verdict, remedyOfDamage)
		}
	}
	if err := db.Transaction(func(tx *gorm.DB) error {
		return migrate(tx, func(*gorm.DB) error { return nil })
	}); err != nil {
		return err
	}
	if o.tablesAlone != nil {
		return nil
	}
	if err := db.Model(&Client{}).Where("shared_key <> ''").Update("shared_key", "").Error; err != nil {
		return fmt.Errorf("empty the keys of ended sessions: %w", err)
	}
	return l.mirror.read()
}

// schema implements engine.
func (l *local) schema() (int64, error) { return schemaOf(l.c.db) }

// read runs a query on the one connection; writes wait for it.
func (l *local) read(query func(db *gorm.DB) error) error {
	if err := query(l.c.db); err != nil {
		return l.judge(fmt.Errorf("read the catalogue: %w", err))
	}
	return nil
}

// clock implements engine: there is but one process.
func (l *local) clock(*gorm.DB) (Time, error) { return Time{l.c.now()}, nil }

// numbers implements engine.
func (l *local) numbers(tx *gorm.DB, n int) ([]int64, error) {
	newest, err := newestChange(tx)
	numbers := make([]int64, n)
	for i := range numbers {
		numbers[i] = newest + 1 + int64(i)
	}
	return numbers, err
}

// saveSeen implements engine.
func (l *local) saveSeen(tx *gorm.DB, ids []ID, seen map[ID]time.Time) error {
	for _, id := range ids {
		if err := tx.Model(&Client{}).Where("id = ?", id).Update("last_seen", Time{seen[id]}).Error; err != nil {
			return err
		}
	}
	return nil
}

// delivers implements engine: nobody else does.
func (l *local) delivers(string) (bool, error) { return true, nil }

func (l *local) close() {
	close(l.closed)
	<-l.writerDone
	if l.lock != nil {
		l.lock.Close()
	}
}
