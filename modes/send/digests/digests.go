// Package digests remembers the digests of local files between runs, so that a file
// that has not changed need not be read to know that it was sent.
package digests

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"fenc/modes/send"
)

const (
	// MinSize is the length in bytes from which a file is worth remembering: reading
	// a shorter one costs no more than looking it up.
	MinSize = 64 << 10
	// settled is how long before it was read a file must have been changed last:
	// times of some file systems are that coarse, and a later change could show the
	// same one.
	settled = 2 * time.Second
	// unused is after how many days without use an entry is dropped.
	unused = 90
	// maxEntries bounds what is kept.
	maxEntries = 1_000_000
	// batch is how many new entries are written at once.
	batch = 1000
)

// entry is a row: what tells a file apart, the state that it had, and its digest.
type entry struct {
	Device int64 `gorm:"primaryKey;autoIncrement:false"`
	Inode  int64 `gorm:"primaryKey;autoIncrement:false"`
	Size   int64 `gorm:"not null"` // bytes
	MTime  int64 `gorm:"not null"` // nanoseconds since 1970
	CTime  int64 `gorm:"not null"` // the same
	Digest []byte
	Day    int64 `gorm:"not null;index"` // of the last use, since 1970
}

// TableName implements gorm's schema.Tabler. Another algorithm would be another
// table.
func (entry) TableName() string { return "blake3" }

// entryOf is the entry of a file that is worth one, without a digest. Where the
// system knows of no time of change that programs cannot set, none is.
func entryOf(info fs.FileInfo) (entry, bool) {
	s := send.StateOf(info)
	return entry{Device: s.Device, Inode: s.Inode, Size: s.Size, MTime: s.MTime, CTime: s.CTime}, s.Identified() && s.Size >= MinSize
}

func (e *entry) key() key { return key{e.Device, e.Inode} }

// key tells files apart: device and inode.
type key struct{ device, inode int64 }

func (e *entry) sameState(o *entry) bool {
	return e.Size == o.Size && e.MTime == o.MTime && e.CTime == o.CTime
}

// Cache is an open file of digests. Its methods may be called from any goroutine.
type Cache struct {
	path string
	db   *gorm.DB
	now  func() time.Time

	mu      sync.Mutex
	damaged bool
	fresh   map[key]entry // not yet in the file
}

// Open opens the file at path, and makes it, and its folder, where there is none.
// A damaged file is made anew. An error is no reason not to send: for instance,
// another process may be using it.
func Open(path string) (*Cache, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("digests of sent files: %w", err)
	}
	c, err := open(path)
	if isDamage(err) {
		if err := remove(path); err != nil {
			return nil, err
		}
		c, err = open(path)
	}
	if err != nil {
		return nil, fmt.Errorf("digests of sent files: %s: %w", path, err)
	}
	return c, nil
}

// remove removes a damaged file.
func remove(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("digests of sent files: remove the damaged file: %w", err)
		}
	}
	return nil
}

// isDamage knows SQLite's codes for a file that is damaged, or none of its files
// (https://sqlite.org/rescode.html).
func isDamage(err error) bool {
	code, ok := errors.AsType[interface {
		error
		Code() int
	}](err)
	return ok && (code.Code()&0xff == 11 || code.Code()&0xff == 26)
}

func open(path string) (*Cache, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite would make it readable for all
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// A cache may be lost with the power, and waits for nobody.
	parameters := url.Values{"_pragma": {"busy_timeout(50)", "journal_mode(WAL)", "synchronous(OFF)"}, "_txlock": {"immediate"}}
	dsn := "file:" + (&url.URL{Path: filepath.ToSlash(absolute)}).EscapedPath() + "?" + parameters.Encode()
	db, err := gorm.Open(sqlite.Open(dsn), &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true})
	if err != nil {
		return nil, err
	}
	c := &Cache{path: path, db: db, now: time.Now, fresh: make(map[key]entry)}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(1)
	if !db.Migrator().HasTable(&entry{}) {
		err = db.AutoMigrate(&entry{})
	}
	if err == nil {
		err = db.Limit(1).Find(&entry{}).Error
	}
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return c, nil
}

// Get returns the digest that the file of this state had.
func (c *Cache) Get(info fs.FileInfo) (digest [32]byte, ok bool) {
	want, ok := entryOf(info)
	if !ok {
		return digest, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	have, ok := c.fresh[want.key()]
	if !ok {
		found := c.db.Limit(1).Find(&have, "device = ? AND inode = ?", want.Device, want.Inode)
		c.damaged = c.damaged || isDamage(found.Error)
		ok = found.Error == nil && found.RowsAffected > 0 && len(have.Digest) == len(digest)
	}
	if !ok || !have.sameState(&want) {
		return digest, false
	}
	if today := c.today(); have.Day != today {
		have.Day = today
		c.put(have)
	}
	return [32]byte(have.Digest), true
}

// Put remembers the digest of a file whose reading began at read, unless it was
// changed so shortly before that a later change could look the same.
func (c *Cache) Put(info fs.FileInfo, digest [32]byte, read time.Time) {
	e, ok := entryOf(info)
	if !ok || max(e.MTime, e.CTime) >= read.Add(-settled).UnixNano() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.Digest, e.Day = digest[:], c.today()
	c.put(e)
}

func (c *Cache) today() int64 { return c.now().Unix() / 86400 }

// put is called with c.mu held.
func (c *Cache) put(e entry) {
	c.fresh[e.key()] = e
	if len(c.fresh) >= batch {
		c.flush() // an error costs the entries, which is no harm
	}
}

func (c *Cache) flush() error {
	defer clear(c.fresh)
	if len(c.fresh) == 0 {
		return nil
	}
	rows := make([]entry, 0, len(c.fresh))
	for _, e := range c.fresh {
		rows = append(rows, e)
	}
	return c.db.Transaction(func(tx *gorm.DB) error {
		return tx.Clauses(clause.OnConflict{UpdateAll: true}).CreateInBatches(rows, 200).Error
	})
}

// Close writes what is new, drops what has not been used for 90 days and what is
// too much, and closes the file. It removes one that turned out to be damaged.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.flush()
	if err == nil {
		err = c.db.Delete(&entry{}, "day < ?", c.today()-unused).Error
	}
	var entries int64
	if err == nil {
		err = c.db.Raw("SELECT COALESCE(MAX(rowid), 0) FROM blake3").Scan(&entries).Error // no less than there are
	}
	if err == nil && entries > maxEntries {
		err = c.db.Exec("DROP TABLE blake3").Error
	}
	pool, poolErr := c.db.DB()
	if poolErr == nil {
		poolErr = pool.Close()
	}
	if c.damaged || isDamage(err) {
		return remove(c.path)
	}
	if err := errors.Join(err, poolErr); err != nil {
		return fmt.Errorf("digests of sent files: %w", err)
	}
	return nil
}
