// Package model keeps the catalogue: who the clients are, which files they have
// here, and which uploads are under way. The database is written first; what is
// held in memory is a copy of it, read at start.
//
// Nothing outside this package says SQL, and no error of the database leaves it
// unsorted: see ErrUnavailable and ErrBroken.
package model

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// What the catalogue answers when it is asked for something it must not do.
var (
	// ErrNameTaken: the name belongs to another client.
	ErrNameTaken = errors.New("name in use")
	// ErrUnknownClient: no client has this id, or it has another name.
	ErrUnknownClient = errors.New("unknown client")
	// ErrOtherKey: the client is known by another public key.
	ErrOtherKey = errors.New("another public key than the one this id first came with")
	// ErrNoUpload: the upload is not there, or no longer in the state it must be in.
	ErrNoUpload = errors.New("no such upload")
	// ErrPathTaken: no free path is left in the client's folder for this name.
	ErrPathTaken = errors.New("path in use by another file")
	// ErrClosed: the catalogue has been closed.
	ErrClosed = errors.New("catalogue closed")
)

var refusals = []error{ErrNameTaken, ErrUnknownClient, ErrOtherKey, ErrNoUpload, ErrPathTaken, ErrClosed, ErrOlder}

var (
	// ErrUnavailable: the database refused the write and is unharmed, for
	// instance because it is locked or its disk is full. It may be tried again.
	ErrUnavailable = errors.New("catalogue unavailable")
	// ErrBroken: an error after which nobody knows what is on the disk. The
	// process must end; the next one settles what it finds.
	ErrBroken = errors.New("catalogue broken")
)

// schemaVersion counts the changes of the tables. A database of a newer version
// is refused.
const schemaVersion = 2

const (
	settingSchema  = "schema"
	settingSettled = "settled"
)

// Options says how the catalogue is opened.
type Options struct {
	// Now tells the time; nil means time.Now.
	Now func() time.Time
	// Fold returns what a path is compared by, where the file system of the
	// storage takes different spellings for one name; nil compares bytes.
	Fold func(path string) string
	// ReadOnly opens a catalogue that is there, perhaps beside the server that
	// writes it, and changes nothing of it.
	ReadOnly bool
	// Beside opens a catalogue that is there, perhaps beside the server that writes
	// it, for an operator's changes: see Invite and Revoke. Files are not read.
	Beside bool
}

// Catalogue is the open database and its copy in memory. Its methods may be
// called from any number of goroutines.
type Catalogue struct {
	db   *gorm.DB
	now  func() time.Time
	fold func(string) string

	readOnly bool
	beside   bool

	changesSeen atomic.Int64 // operators' changes that the copy in memory has

	managedFiles atomic.Int64 // of those, changes of files
	filesSeen    atomic.Int64 // change up to which Reload has read the files

	jobs       chan job
	closed     chan struct{}
	closeOnce  sync.Once
	writerDone chan struct{}

	breakOnce sync.Once
	broken    chan struct{}
	brokenBy  error // set before broken is closed

	mirror mirror
}

// Open opens the SQLite database at path, makes it where there is none
// (mode 0600), and reads it into memory. Session keys that a crash left behind
// are emptied.
func Open(path string, o Options) (*Catalogue, error) {
	if strings.Contains(path, "://") || strings.HasPrefix(path, "file:") || path == ":memory:" {
		return nil, errors.New("database: want the path of a SQLite file, such as fenc.db") // without the value: a DSN may hold a password
	}
	if o.ReadOnly || o.Beside {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("database: %w", err)
		}
	} else if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	wal, err := os.Stat(path + "-wal") // the last process to close the database removes it
	unclean := err == nil && wal.Size() > 0
	c := &Catalogue{
		now: o.Now, fold: o.Fold, readOnly: o.ReadOnly, beside: o.Beside,
		jobs: make(chan job), closed: make(chan struct{}), writerDone: make(chan struct{}), broken: make(chan struct{}),
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.fold == nil {
		c.fold = func(path string) string { return path }
	}
	db, err := gorm.Open(sqlite.Open(sqliteDSN(path, o.ReadOnly)), &gorm.Config{
		TranslateError: true,
		Logger:         logger.Discard, // errors are returned, and gorm's lines would quote values
		NowFunc:        func() time.Time { return c.now().UTC() },
	})
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	c.db = db
	if err := c.prepare(unclean); err != nil {
		c.closeDatabase()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	go c.runWriter()
	return c, nil
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
// checks the database first.
func (c *Catalogue) prepare(unclean bool) error {
	pool, err := c.db.DB()
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(1) // SQLite has one writer
	if c.readOnly {
		if err := c.checkSchema(c.db); err != nil {
			return err
		}
		return c.mirror.read(c.db)
	}
	if c.beside {
		if err := c.checkSchema(c.db); err != nil {
			return err
		}
		return c.mirror.readClients(c.db)
	}
	if unclean {
		var verdict string
		if err := c.db.Raw("PRAGMA quick_check(1)").Scan(&verdict).Error; err != nil {
			return err
		}
		if verdict != "ok" {
			return fmt.Errorf("database is damaged (%s): restore it from a backup", verdict)
		}
	}
	if err := c.migrate(); err != nil {
		return err
	}
	if err := c.db.Model(&Client{}).Where("shared_key <> ''").Update("shared_key", "").Error; err != nil {
		return fmt.Errorf("empty the keys of ended sessions: %w", err)
	}
	changes, err := managed(c.db)
	if err != nil {
		return err
	}
	c.changesSeen.Store(changes)
	files, err := settingValue(c.db, settingManagedFiles)
	if err != nil {
		return err
	}
	newest, err := c.LastChange()
	if err != nil {
		return err
	}
	c.managedFiles.Store(files)
	c.filesSeen.Store(newest)
	return c.mirror.read(c.db)
}

func (c *Catalogue) migrate() error {
	return c.db.Transaction(func(tx *gorm.DB) error {
		if tx.Migrator().HasTable(&setting{}) {
			if err := upgrade(tx); err != nil {
				return err
			}
			return c.checkSchema(tx)
		}
		tables := []any{&setting{}, &Client{}, &File{}, &Upload{}, &Garbage{}, &Chunk{}, &Tree{}, &Pack{}, &Invite{}}
		if err := tx.AutoMigrate(tables...); err != nil {
			return fmt.Errorf("make the tables: %w", err)
		}
		return saveSetting(tx, settingSchema, schemaVersion)
	})
}

// checkSchema refuses tables of another version than this program's.
func (c *Catalogue) checkSchema(db *gorm.DB) error {
	var have setting
	if err := db.Take(&have, "name = ?", settingSchema).Error; err != nil {
		return fmt.Errorf("read the schema's version (is it a catalogue of fenc?): %w", err)
	}
	if have.Value != schemaVersion {
		return fmt.Errorf("its tables are of version %d, this fenc knows %d: use the fenc that made it, or a newer one", have.Value, schemaVersion)
	}
	return nil
}

// Broken is closed when the database can no longer be trusted to hold what it
// was given. The process should then end with Err.
func (c *Catalogue) Broken() <-chan struct{} { return c.broken }

// Err tells why Broken was closed; nil while it is not.
func (c *Catalogue) Err() error {
	select {
	case <-c.broken:
		return c.brokenBy
	default:
		return nil
	}
}

// Close writes what memory holds back (see Touch) and closes the database.
func (c *Catalogue) Close() error {
	var err error
	c.closeOnce.Do(func() {
		err = c.FlushSeen()
		close(c.closed)
		<-c.writerDone
		err = errors.Join(err, c.closeDatabase())
	})
	return err
}

func (c *Catalogue) closeDatabase() error {
	pool, err := c.db.DB()
	if err != nil {
		return err
	}
	return pool.Close()
}
