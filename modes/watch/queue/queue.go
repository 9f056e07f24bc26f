// Package queue remembers, across restarts, which files of watched folders wait to be
// sent and which were verified, and in what state.
package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/gofrs/flock"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"fenc/modes/send"
)

// ErrInUse: another process has the queue.
var ErrInUse = errors.New("in use")

// Key tells the files of a queue apart.
type Key struct {
	Root string // absolute path of the watched folder
	Path string // below it, "/"-separated
}

// File is a file of the queue.
type File struct {
	Key
	// Order is greater for what was added later; adding a file again gives it another.
	Order int64
	// Waiting is whether the file is to be sent; else it was verified.
	Waiting bool
	// State is what the file was when it was added or, once it was verified, read.
	State send.State
	// Since is when it was added or verified.
	Since time.Time
	// Tries is how often it was tried in vain, NotBefore when it is tried next, and
	// Reason why it was not verified.
	Tries     int
	NotBefore time.Time
	Reason    string
	// Digest is what was verified, as the server shows it.
	Digest string
}

// row is a File as a table has it; times are nanoseconds since 1970.
type row struct {
	Root      string `gorm:"primaryKey"`
	Path      string `gorm:"primaryKey"`
	Seq       int64  `gorm:"not null;index:waiting,priority:2"`
	Waiting   bool   `gorm:"not null;index:waiting,priority:1"`
	Size      int64  `gorm:"not null"` // bytes
	MTime     int64  `gorm:"not null"`
	CTime     int64  `gorm:"not null"`
	Device    int64  `gorm:"not null"`
	Inode     int64  `gorm:"not null"`
	Since     int64  `gorm:"not null"`
	Tries     int    `gorm:"not null"`
	NotBefore int64  `gorm:"not null"`
	Reason    string `gorm:"not null"`
	Digest    string `gorm:"not null"`
}

// TableName implements gorm's schema.Tabler.
func (row) TableName() string { return "files" }

func (r *row) state() send.State {
	return send.State{Size: r.Size, MTime: r.MTime, CTime: r.CTime, Device: r.Device, Inode: r.Inode}
}

func (r *row) setState(s send.State) {
	r.Size, r.MTime, r.CTime, r.Device, r.Inode = s.Size, s.MTime, s.CTime, s.Device, s.Inode
}

func (r *row) file() File {
	return File{
		Key: Key{r.Root, r.Path}, Order: r.Seq, Waiting: r.Waiting, State: r.state(), Since: time.Unix(0, r.Since),
		Tries: r.Tries, NotBefore: time.Unix(0, r.NotBefore), Reason: r.Reason, Digest: r.Digest,
	}
}

// setting is what is remembered beside the files.
type setting struct {
	Name  string `gorm:"primaryKey"`
	Value string `gorm:"not null"`
}

const (
	settingSchema = "schema"
	settingClient = "client"

	schemaVersion = "1"
)

// Queue is an open queue. Its methods may be called from any goroutine. What they
// change is in the database when they return.
type Queue struct {
	db   *gorm.DB
	lock *flock.Flock // nil where the queue is only looked at
	seq  int64        // of the last file; guarded by the database's one connection

	roots []string // see Serve
}

// Open opens the queue at path for this process alone, and makes it, and its folder,
// where there is none. Where another process has it, the error wraps ErrInUse; what is
// there and is no queue stays as it is, and the error wraps ErrNoQueue.
func Open(path string) (*Queue, error) {
	if err := checkKind(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("queue: make its folder: %w", err)
	}
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("queue %s: lock it: %w", path, err)
	}
	if !locked {
		return nil, fmt.Errorf("queue %s: %w by another fenc watch", path, ErrInUse)
	}
	q, err := open(path, "rwc")
	if err == nil {
		q.lock = lock
		err = q.prepare()
		if err != nil {
			err = errors.Join(err, q.closeDatabase())
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("queue %s: %w", path, explain(err)), lock.Close())
	}
	return q, nil
}

// Look opens the queue at path to be looked at, beside the process that has it; InUse
// tells whether there is one. Where there is no queue the error wraps fs.ErrNotExist.
func Look(path string) (*Queue, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if err := checkKind(path); err != nil {
		return nil, err
	}
	q, err := open(path, "ro")
	if err == nil && !q.db.Migrator().HasTable(&row{}) {
		err = errors.Join(errors.New("is no queue of fenc watch"), q.closeDatabase())
	}
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", path, explain(err))
	}
	return q, nil
}

// InUse reports whether a process has the queue at path.
func InUse(path string) bool {
	if _, err := os.Stat(path + ".lock"); err != nil {
		return false
	}
	lock := flock.New(path+".lock", flock.SetFlag(os.O_RDONLY))
	defer lock.Close()
	free, err := lock.TryRLock()
	return err == nil && !free
}

// explain adds what to do about a damaged queue (SQLite's codes 11 and 26,
// https://sqlite.org/rescode.html).
func explain(err error) error {
	code, ok := errors.AsType[interface {
		error
		Code() int
	}](err)
	if ok && (code.Code()&0xff == 11 || code.Code()&0xff == 26) {
		return fmt.Errorf("%w: remove it; all files are offered again then, and what the server has is not sent twice", err)
	}
	return err
}

func open(path, mode string) (*Queue, error) {
	if mode == "rwc" {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite would make it readable for all
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if absolute = filepath.ToSlash(absolute); !strings.HasPrefix(absolute, "/") {
		absolute = "/" + absolute // a Windows drive
	}
	// What the power takes of the last second is found and offered again.
	parameters := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)"}, "_txlock": {"immediate"}, "mode": {mode}}
	if mode == "ro" {
		parameters["_pragma"] = []string{"busy_timeout(10000)", "query_only(1)"}
		parameters.Del("_txlock")
	}
	if mode == "immutable" { // it is read as it is, without SQLite's log and locks
		parameters = url.Values{"mode": {"ro"}, "immutable": {"1"}}
	}
	db, err := gorm.Open(sqlite.Open("file:"+(&url.URL{Path: absolute}).EscapedPath()+"?"+parameters.Encode()), &gorm.Config{
		Logger: logger.Discard, SkipDefaultTransaction: true, PrepareStmt: true,
	})
	if err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(1) // SQLite has one writer
	return &Queue{db: db}, nil
}

// prepare makes the tables where there are none. All that waits may be tried at once.
func (q *Queue) prepare() error {
	if !q.db.Migrator().HasTable(&setting{}) {
		if err := q.db.AutoMigrate(&row{}, &setting{}); err != nil {
			return err
		}
		if err := q.db.Create(&setting{settingSchema, schemaVersion}).Error; err != nil {
			return err
		}
	}
	if !q.db.Migrator().HasTable(&problem{}) {
		if err := q.db.AutoMigrate(&problem{}); err != nil {
			return err
		}
	}
	schema, err := q.setting(settingSchema)
	if err != nil {
		return err
	}
	if schema != schemaVersion {
		return fmt.Errorf("is of version %q, and this fenc knows %s: run the newer fenc, or name another queue with --queue", schema, schemaVersion)
	}
	if err := q.db.Model(&row{}).Select("COALESCE(MAX(seq), 0)").Scan(&q.seq).Error; err != nil {
		return err
	}
	return q.db.Model(&row{}).Where("waiting AND not_before > 0").Update("not_before", 0).Error
}

func (q *Queue) setting(name string) (string, error) {
	var s setting
	err := q.db.Limit(1).Find(&s, "name = ?", name).Error
	return s.Value, err
}

// For says for which client, at which server, the files are sent. Where it was another
// one before, everything waits again: what that server has does not count for this.
// It returns how many files that are.
func (q *Queue) For(client string) (again int64, err error) {
	err = q.db.Transaction(func(tx *gorm.DB) error {
		var was setting
		if err := tx.Limit(1).Find(&was, "name = ?", settingClient).Error; err != nil || was.Value == client {
			return err
		}
		if was.Value != "" {
			update := tx.Model(&row{}).Where("NOT waiting").Updates(map[string]any{"waiting": true, "tries": 0, "not_before": 0, "reason": "", "digest": ""})
			if again = update.RowsAffected; update.Error != nil {
				return update.Error
			}
		}
		return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&setting{settingClient, client}).Error
	})
	return again, wrap("note the client", err)
}

func wrap(doing string, err error) error {
	if err != nil {
		return fmt.Errorf("queue: %s: %w", doing, explain(err))
	}
	return nil
}

// Serve has Waiting, Next and Summary tell of the files of these roots alone; those of
// others stay as they are.
func (q *Queue) Serve(roots []string) { q.roots = roots }

// served is the condition for the files of the served roots.
func (q *Queue) served() (condition string, arguments []any) {
	if q.roots == nil {
		return "TRUE", nil
	}
	return "root IN ?", []any{q.roots}
}

// Known returns what the queue knows of files of a root, by their paths below it.
func (q *Queue) Known(root string, paths ...string) (map[string]File, error) {
	files := make(map[string]File)
	rows, err := rowsOf(q.db, root, paths)
	for path, r := range rows {
		files[path] = r.file()
	}
	return files, wrap("look files up", err)
}

// rowsOf returns the rows of files of a root, by their paths. It reads them without
// gorm's help, which takes longer than the database.
func rowsOf(tx *gorm.DB, root string, paths []string) (map[string]row, error) {
	list, err := json.Marshal(paths)
	if err != nil {
		return nil, err
	}
	found, err := tx.Raw(`SELECT path, seq, waiting, size, m_time, c_time, device, inode, since, tries, not_before, reason, digest
		FROM files WHERE root = ? AND path IN (SELECT value FROM json_each(?))`, root, string(list)).Rows()
	if err != nil {
		return nil, err
	}
	defer found.Close()
	rows := make(map[string]row)
	for found.Next() {
		r := row{Root: root}
		if err := found.Scan(&r.Path, &r.Seq, &r.Waiting, &r.Size, &r.MTime, &r.CTime, &r.Device, &r.Inode, &r.Since, &r.Tries, &r.NotBefore, &r.Reason, &r.Digest); err != nil {
			return nil, err
		}
		rows[r.Path] = r
	}
	return rows, found.Err()
}

// Add has files wait, in their states, in the order of the slice and behind all
// others.
func (q *Queue) Add(now time.Time, files ...File) error {
	return wrap("add files", q.db.Transaction(func(tx *gorm.DB) error {
		rows := make([]row, 0, len(files))
		for _, f := range files {
			q.seq++
			r := row{Root: f.Root, Path: f.Path, Seq: q.seq, Waiting: true, Since: now.UnixNano()}
			r.setState(f.State)
			rows = append(rows, r)
		}
		return put(tx, rows)
	}))
}

// Waiting returns up to limit files that wait, may be tried at now, and stand behind
// the order of after.
func (q *Queue) Waiting(now time.Time, after int64, limit int) ([]File, error) {
	var rows []row
	served, arguments := q.served()
	err := q.db.Raw("SELECT * FROM files WHERE waiting AND "+served+" AND seq > ? AND not_before <= ? ORDER BY seq LIMIT ?",
		append(arguments, after, now.UnixNano(), limit)...).Scan(&rows).Error
	files := make([]File, 0, len(rows))
	for i := range rows {
		files = append(files, rows[i].file())
	}
	return files, wrap("list what waits", err)
}

// Next returns when the next of the files that wait may be tried; ok is false where
// none does.
func (q *Queue) Next() (at time.Time, ok bool, err error) {
	var least *int64
	served, arguments := q.served()
	err = q.db.Raw("SELECT MIN(not_before) FROM files WHERE waiting AND "+served, arguments...).Scan(&least).Error
	if err != nil || least == nil {
		return at, false, wrap("list what waits", err)
	}
	return time.Unix(0, *least), true, nil
}

// Verified notes that files were verified, each in its State and with its Digest. One
// that was added again since it was taken, in another state, goes on waiting.
func (q *Queue) Verified(now time.Time, files ...File) error {
	return wrap("note what was verified", q.db.Transaction(func(tx *gorm.DB) error {
		paths := make(map[string][]string) // by root
		for _, f := range files {
			paths[f.Root] = append(paths[f.Root], f.Path)
		}
		rows := make(map[Key]row)
		for root, paths := range paths {
			of, err := rowsOf(tx, root, paths)
			if err != nil {
				return err
			}
			for path, r := range of {
				rows[Key{root, path}] = r
			}
		}
		var changed []row
		for _, f := range files {
			r, ok := rows[f.Key]
			if !ok || r.Seq != f.Order && r.state() != f.State {
				continue
			}
			r.setState(f.State)
			r.Waiting, r.Since, r.Digest, r.Tries, r.NotBefore, r.Reason = false, now.UnixNano(), f.Digest, 0, 0, ""
			changed = append(changed, r)
		}
		return put(tx, changed)
	}))
}

// put writes rows, each in the place of the one with its key.
func put(tx *gorm.DB, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	return tx.Clauses(clause.OnConflict{UpdateAll: true}).CreateInBatches(rows, 100).Error
}

// Failed notes that files were tried in vain: their Tries, NotBefore and Reason.
func (q *Queue) Failed(files ...File) error {
	return wrap("note what was not verified", q.db.Transaction(func(tx *gorm.DB) error {
		for _, f := range files {
			err := tx.Exec("UPDATE files SET tries = ?, not_before = ?, reason = ? WHERE root = ? AND path = ? AND seq = ?",
				f.Tries, f.NotBefore.UnixNano(), f.Reason, f.Root, f.Path, f.Order).Error
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// Forget drops files, unless they were added again since they were taken.
func (q *Queue) Forget(files ...File) error {
	return wrap("forget files", q.db.Transaction(func(tx *gorm.DB) error {
		for _, f := range files {
			if err := tx.Exec("DELETE FROM files WHERE root = ? AND path = ? AND seq = ?", f.Root, f.Path, f.Order).Error; err != nil {
				return err
			}
		}
		return nil
	}))
}

// Files returns up to limit files of a root, in the order of their paths, behind the
// path of after.
func (q *Queue) Files(root, after string, limit int) ([]File, error) {
	var rows []row
	err := q.db.Raw("SELECT * FROM files WHERE root = ? AND path > ? ORDER BY path LIMIT ?", root, after, limit).Scan(&rows).Error
	files := make([]File, 0, len(rows))
	for i := range rows {
		files = append(files, rows[i].file())
	}
	return files, wrap("list files", err)
}

// Count returns how many files of a root there are.
func (q *Queue) Count(root string) (n int64, err error) {
	err = q.db.Raw("SELECT COUNT(*) FROM files WHERE root = ?", root).Scan(&n).Error
	return n, wrap("count files", err)
}

// Close closes the queue.
func (q *Queue) Close() error {
	err := q.closeDatabase()
	if q.lock != nil {
		err = errors.Join(err, q.lock.Close())
	}
	return wrap("close it", err)
}

func (q *Queue) closeDatabase() error {
	pool, err := q.db.DB()
	if err == nil {
		err = pool.Close()
	}
	return err
}
