// Package model keeps the catalogue: who the clients are, which files they have
// here, and which uploads are under way: in SQLite, which one process writes and has
// a copy of in memory, or in PostgreSQL, which several write.
//
// Nothing outside this package says SQL, and no error of the database leaves it
// unsorted: see ErrUnavailable and ErrBroken.
package model

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
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
	// ErrInUse: another server has the SQLite file.
	ErrInUse = errors.New("another fenc serve has it open: end that one, or give each its own; only in PostgreSQL do several share a catalogue")
	// ErrNoCatalogue: the database has no tables of fenc.
	ErrNoCatalogue = errors.New("no catalogue of fenc is there")
)

var refusals = []error{ErrNameTaken, ErrUnknownClient, ErrOtherKey, ErrNoUpload, ErrPathTaken, ErrClosed, ErrNoCatalogue, ErrOlder}

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
const schemaVersion = 4

const (
	settingSchema  = "schema"
	settingSettled = "settled"
)

// Options says how the catalogue is opened.
type Options struct {
	// Now tells the time; nil means time.Now, and the database's clock where several
	// processes share it.
	Now func() time.Time
	// Fold returns what a path is compared by, where the file system of the
	// storage takes different spellings for one name; nil compares bytes.
	Fold func(path string) string
	// ReadOnly opens a catalogue that is there, perhaps beside the server that
	// writes it, and changes nothing of it. Files are not read into memory.
	ReadOnly bool
	// Beside opens a catalogue that is there, perhaps beside the server that writes
	// it, for an operator's changes: see Invite and Revoke. Files are not read.
	Beside bool
	// Sole opens a SQLite file for this server alone: it holds in memory what others
	// would change. Where another has it, the error wraps ErrInUse.
	Sole bool
	// KeepVersions is how many earlier versions of a file are kept, of clients
	// that have no number of their own.
	KeepVersions int64
	// Destinations are who is told of files; see Event. Without any, no events are
	// written.
	Destinations []string
	// Password is that of a database in PostgreSQL, where its address, the environment
	// and ~/.pgpass have none.
	Password string
	// Program is what PostgreSQL lists this process's connections by; empty: "fenc", as
	// a server's.
	Program string

	tablesAlone *int64 // set: only the tables are brought up to date; it gets their version before
}

// Catalogue is the open database. Its methods may be called from any number of
// goroutines.
type Catalogue struct {
	db       *gorm.DB
	engine   engine
	view     view
	seen     seen
	now      func() time.Time
	ownClock bool // now is this machine's clock
	fold     func(string) string

	keepVersions atomic.Int64
	destinations []string
	news         map[string]chan struct{} // by destination; each holds a value after events were written

	closeOnce sync.Once
	breakOnce sync.Once
	broken    chan struct{}
	brokenBy  error // set before broken is closed
	faults    atomic.Int64
}

// engine is the database below: SQLite, which this process alone writes, or
// PostgreSQL, which several may.
type engine interface {
	// write runs do inside a transaction and returns when it is durable, or refused.
	// do may run only on the handle it is given, and more than once: where the answer
	// to a commit was lost.
	write(o order, do func(tx *gorm.DB) error) error
	// read runs a query, perhaps more than once.
	read(query func(db *gorm.DB) error) error
	// prepare brings the tables up to date, or, where that is not for this process,
	// looks at their version.
	prepare(o Options) error
	// schema is the version of the tables, 0 where there are none.
	schema() (int64, error)
	// confirm is called with a look that has been taken, and takes it again, perhaps more
	// than once, unless what was seen is known to be as durable as what this process
	// commits. When it returns, what was seen last is.
	confirm(look func(db *gorm.DB) error) error
	// judge sorts an error: refusals stay, others become ErrUnavailable or ErrBroken.
	judge(err error) error
	// clock is the time by which leases are measured: of all who lease, the same.
	clock(tx *gorm.DB) (Time, error)
	// numbers returns the numbers of n changes, in their order.
	numbers(tx *gorm.DB, n int) ([]int64, error)
	// saveSeen writes when clients were heard of.
	saveSeen(tx *gorm.DB, ids []ID, seen map[ID]time.Time) error
	// advance has the numbers of rows, and those of changes, begin behind what is there.
	advance(tx *gorm.DB, change int64) error
	// delivers reports whether events for a destination are this process's to deliver.
	delivers(destination string) (bool, error)
	// close ends what the engine runs, not the database.
	close()
}

// Open opens a catalogue and makes it where there is none: in PostgreSQL where
// database is a postgres:// address, and else in the SQLite file of that path (mode
// 0600), which it reads into memory. Several processes may have one in PostgreSQL
// open and write it.
//
// No error and no log line has the address, since a password may be in it: see
// DatabaseName.
func Open(database string, o Options) (*Catalogue, error) {
	own := o.Now == nil
	if own {
		o.Now = time.Now
	}
	if o.Fold == nil {
		o.Fold = func(path string) string { return path }
	}
	c := &Catalogue{now: o.Now, fold: o.Fold, destinations: o.Destinations, news: make(map[string]chan struct{}), broken: make(chan struct{}), ownClock: own}
	for _, d := range o.Destinations {
		c.news[d] = make(chan struct{}, 1)
	}
	c.keepVersions.Store(o.KeepVersions)
	open := c.openSQLite
	if IsShared(database) {
		open = c.openPostgres
	}
	err := open(database, o)
	if err == nil && o.tablesAlone != nil {
		*o.tablesAlone, err = c.engine.schema()
	}
	if err == nil {
		err = c.engine.prepare(o)
	}
	if err == nil {
		return c, nil
	}
	if c.db != nil {
		c.engine.close()
		err = errors.Join(err, c.closeDatabase())
	}
	return nil, fmt.Errorf("open database %s: %w", DatabaseName(database), err)
}

// Migrate makes the tables of a catalogue, or brings them up to date, and does nothing
// else. It returns the versions of the tables before, 0 where there were none, and now.
func Migrate(database string, o Options) (before, now int64, err error) {
	o.tablesAlone = &before
	c, err := Open(database, o)
	if err != nil {
		return 0, 0, err
	}
	return before, schemaVersion, c.Close()
}

// migrate brings the tables up to date inside the transaction tx. finish ends the
// making of new ones.
func migrate(tx *gorm.DB, finish func(tx *gorm.DB) error) error {
	made, err := hasTables(tx)
	if err != nil {
		return err
	}
	if made {
		if err := upgrade(tx); err != nil {
			return err
		}
		return checkSchema(tx)
	}
	tables := []any{&setting{}, &Client{}, &File{}, &Upload{}, &Garbage{}, &Chunk{}, &Tree{}, &Pack{}, &Invite{}, &KeptVersion{}, &Event{}}
	if err := tx.AutoMigrate(tables...); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	if err := finish(tx); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	return saveSetting(tx, settingSchema, schemaVersion)
}

// hasTables reports whether there is a catalogue. Gorm's own question takes an error
// for no.
func hasTables(db *gorm.DB) (made bool, err error) {
	ask := "SELECT COUNT(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = 'settings'"
	if db.Name() == "postgres" {
		ask = "SELECT to_regclass('settings') IS NOT NULL"
	}
	err = db.Raw(ask).Row().Scan(&made)
	return made, err
}

// schemaOf reads the version of the tables, 0 where there are none.
func schemaOf(db *gorm.DB) (int64, error) {
	if made, err := hasTables(db); err != nil || !made {
		return 0, err
	}
	return settingValue(db, settingSchema)
}

// checkSchema refuses tables of another version than this program's.
func checkSchema(db *gorm.DB) error {
	if made, err := hasTables(db); err != nil {
		return err
	} else if !made {
		return ErrNoCatalogue
	}
	var have setting
	if err := db.Take(&have, "name = ?", settingSchema).Error; err != nil {
		return fmt.Errorf("read the schema's version (is it a catalogue of fenc?): %w", err)
	}
	if have.Value < schemaVersion {
		return fmt.Errorf("its tables are of version %d, those of this fenc of version %d: fenc migrate, or the start of fenc serve, brings them up to date", have.Value, schemaVersion)
	}
	if have.Value > schemaVersion {
		return fmt.Errorf("its tables are of version %d, this fenc knows %d: use the fenc that made it, or a newer one", have.Value, schemaVersion)
	}
	return nil
}

// Now returns the time that the catalogue goes by.
func (c *Catalogue) Now() time.Time { return c.now() }

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
		c.engine.close()
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

func (c *Catalogue) write(o order, do func(tx *gorm.DB) error) error { return c.engine.write(o, do) }

// read runs a query; on SQLite writes wait for it.
func (c *Catalogue) read(query func(db *gorm.DB) error) error { return c.engine.read(query) }

func (c *Catalogue) judge(err error) error { return c.engine.judge(err) }

// isRefusal reports whether err is the catalogue's own answer and no fault.
func isRefusal(err error) bool {
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
