package model

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/semaphore"
	"gorm.io/gorm"
)

// shared is the engine of a catalogue in PostgreSQL, which other processes write as
// well, and the view of it: nothing is answered from memory, but what Rights says.
type shared struct {
	c      *Catalogue
	closed chan struct{}
	me     string // this process, among those that share the catalogue
	writes bool

	patience    time.Duration // how long what failed for the connection is tried again
	longestRead time.Duration // for one try

	changesSeen int64 // operators' changes up to which reload has told of clients

	ahead   atomic.Int64 // nanoseconds that the database's clock is ahead of this machine's
	standby atomic.Bool  // commits wait for one, at a database that was spoken to
	aligned time.Time    // when both were found out

	cutShort atomic.Int64 // how many commits' waits for a standby were
	asked    confirmations

	gates   gates
	writers *semaphore.Weighted // so that there are connections for lookups

	mu         sync.Mutex
	known      map[ID]knownRights
	delivering map[string]time.Time // by destination: since when this process is known to be the one
	sums       knownTotals
}

// write implements engine.
func (s *shared) write(o order, do func(tx *gorm.DB) error) error {
	if !s.writes {
		return s.judge(errors.New("the catalogue is open to be read"))
	}
	return s.persist(longestWrite, func(db *gorm.DB) error {
		if !o.upload.IsZero() {
			var clients []ID
			if err := db.Model(&Upload{}).Where("id = ?", o.upload).Pluck("client_id", &clients).Error; err != nil {
				return err
			}
			o = of(clients...) // it never changes; where the upload is gone, its outcome stands
		}
		ctx, keys := db.Statement.Context, o.keys()
		leave, err := s.gates.enter(ctx, keys)
		if err != nil {
			return err
		}
		defer leave()
		if err := s.writers.Acquire(ctx, 1); err != nil {
			return err
		}
		defer s.writers.Release(1)
		before := s.cutShort.Load()
		err = db.Transaction(func(tx *gorm.DB) error {
			if err := lock(tx, o.all, keys); err != nil {
				return err
			}
			return do(tx)
		})
		if err == nil && s.cutShort.Load() != before {
			return errCutShort // perhaps another one's: this one is safe to repeat
		}
		return err
	})
}

// errCutShort: a commit is done, which is visible, and not known to be at the standby.
var errCutShort = errors.New("the commit waited too long for the database's synchronous standby")

// mark has the commit of a transaction wait for the standby, if commits do, whatever
// else it writes: it may have found done what another one, whose wait was cut short or
// whose database crashed, has committed.
const mark = "CASE WHEN current_setting('synchronous_standby_names') <> '' THEN pg_logical_emit_message(true, 'fenc', '') END"

// lock takes a transaction's locks. Who waits for one sees afterwards what its holder
// has committed, since each statement reads anew.
func lock(tx *gorm.DB, all bool, keys []int64) error {
	if all {
		return tx.Exec("SELECT "+limits+", "+mark+", pg_advisory_xact_lock(?)", int64(catalogueKey)).Error
	}
	locks, args := "SELECT "+limits+", "+mark+", pg_advisory_xact_lock_shared(?)", []any{int64(catalogueKey)}
	for _, key := range keys {
		locks, args = locks+", pg_advisory_xact_lock(?)", append(args, key)
	}
	return tx.Exec(locks, args...).Error
}

// read implements engine.
func (s *shared) read(query func(db *gorm.DB) error) error {
	return s.persist(s.longestRead, func(db *gorm.DB) error {
		if err := query(db); err != nil {
			return fmt.Errorf("read the catalogue: %w", err)
		}
		return nil
	})
}

// persist tries again what failed for the connection, while there is hope that it
// comes back: the database may be starting, or another one be taking its place.
// each bounds one try.
func (s *shared) persist(each time.Duration, do func(db *gorm.DB) error) error {
	pause := backoff.ExponentialBackOff{InitialInterval: 10 * time.Millisecond, Multiplier: 2, RandomizationFactor: 0.5, MaxInterval: 500 * time.Millisecond}
	pause.Reset()
	for end := time.Now().Add(s.patience); ; {
		err := s.once(each, do)
		if err == nil || !passes(err) {
			return s.judge(err)
		}
		s.c.faults.Add(1)
		wait := pause.NextBackOff()
		if time.Now().Add(wait).After(end) {
			return s.judge(err)
		}
		select {
		case <-time.After(wait):
		case <-s.closed:
			return ErrClosed
		}
	}
}

func (s *shared) once(each time.Duration, do func(db *gorm.DB) error) error {
	select {
	case <-s.closed:
		return ErrClosed
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), each)
	defer cancel()
	return do(s.c.db.WithContext(ctx))
}

// passes reports whether an error is of the connection, or of others' transactions,
// and not of what was asked.
func passes(err error) bool {
	if isRefusal(err) {
		return false
	}
	if errors.Is(err, errCutShort) {
		return true
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(refused.Code, "08"), // connection exceptions
			strings.HasPrefix(refused.Code, "57P"): // the database ends, or is not up yet
			return true
		}
		switch refused.Code {
		case "40001", "40P01", // serialization, deadlock
			"53300",          // too many connections
			"55P03", "57014", // waited too long for a lock, or altogether
			"25P03", "25P04", // was idle for too long
			"25006": // a standby
			return true
		}
		return false
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return true
	}
	for _, lost := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone, context.DeadlineExceeded} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return pgconn.SafeToRetry(err)
}

// judge implements engine: whatever the database says, it may be tried again, since
// it is for PostgreSQL to know what is on the disk.
func (s *shared) judge(err error) error {
	if err == nil || isRefusal(err) || errors.Is(err, ErrUnavailable) {
		return err
	}
	s.c.faults.Add(1)
	return fmt.Errorf("%w: %w", ErrUnavailable, inOneLine(err))
}

// alignEvery is how often the database is asked what time it is.
const alignEvery = time.Minute

// align finds out how far the database's clock is ahead: what one process writes down,
// another one, on another machine, compares with its own time. And whether commits
// wait for a standby.
func (s *shared) align(db *gorm.DB) error {
	if time.Since(s.aligned) < alignEvery {
		return nil
	}
	var standby bool
	if err := db.Raw("SELECT current_setting('synchronous_standby_names') <> ''").Row().Scan(&standby); err != nil {
		return err
	}
	if standby { // it stays so: another one, to which there are connections still, may wait for none
		s.standby.Store(true)
	}
	asked := time.Now()
	now, err := s.clock(db)
	if err != nil {
		return err
	}
	if s.c.ownClock {
		s.ahead.Store(int64(now.Sub(asked.Add(time.Since(asked) / 2))))
	}
	s.aligned = time.Now()
	return nil
}

// clock implements engine: the database's own.
func (s *shared) clock(tx *gorm.DB) (now Time, err error) {
	err = tx.Raw("SELECT clock_timestamp()").Row().Scan(&now)
	return now, err
}

// numbers implements engine. Changes of one client grow in the order of their
// commits, those of different clients may be seen out of turn.
func (s *shared) numbers(tx *gorm.DB, n int) (numbers []int64, err error) {
	if n == 0 {
		return nil, nil
	}
	err = tx.Raw("SELECT nextval('changes') FROM generate_series(1, ?)", n).Scan(&numbers).Error
	return numbers, err
}

// saveSeen implements engine.
func (s *shared) saveSeen(tx *gorm.DB, ids []ID, seen map[ID]time.Time) error {
	const most = 1000
	for len(ids) > 0 {
		part := ids[:min(len(ids), most)]
		ids = ids[len(part):]
		values, args := make([]string, len(part)), make([]any, 0, 2*len(part))
		for i, id := range part {
			values[i] = "(?::bytea, ?::timestamptz)"
			args = append(args, id, Time{seen[id]})
		}
		err := tx.Exec("UPDATE clients SET last_seen = heard.at FROM (VALUES "+strings.Join(values, ", ")+") AS heard (id, at) "+
			"WHERE clients.id = heard.id AND (clients.last_seen IS NULL OR clients.last_seen < heard.at)", args...).Error
		if err != nil {
			return err
		}
	}
	return nil
}

// deliveryLease is how long a process that does not ask any more keeps others from
// delivering events.
const deliveryLease = 15 * time.Second

// delivers implements engine: one process at a time delivers to a destination.
func (s *shared) delivers(destination string) (mine bool, err error) {
	now := time.Now()
	s.mu.Lock()
	fresh := now.Sub(s.delivering[destination]) < deliveryLease/5
	s.mu.Unlock()
	if fresh {
		return true, nil
	}
	err = s.read(func(db *gorm.DB) error {
		taken := db.Exec(`INSERT INTO settings (name, value, text)
			SELECT ?, (extract(epoch FROM clock_timestamp()) * 1000)::bigint + ?, ?
			ON CONFLICT (name) DO UPDATE SET value = excluded.value, text = excluded.text
			WHERE settings.text = excluded.text OR settings.value < excluded.value - ?`,
			settingDelivers+destination, deliveryLease.Milliseconds(), s.me, deliveryLease.Milliseconds())
		mine = taken.RowsAffected > 0
		return taken.Error
	})
	if err == nil && mine {
		s.mu.Lock()
		s.delivering[destination] = now
		s.mu.Unlock()
	}
	return mine, err
}

// settingDelivers, with a destination behind it, is who delivers there, and until
// when.
const settingDelivers = "delivers:"

// close implements engine.
func (s *shared) close() {
	select {
	case <-s.closed:
		return
	default:
	}
	// Others need not wait for the time to be over.
	s.once(time.Second, func(db *gorm.DB) error {
		return db.Exec("DELETE FROM settings WHERE text = ? AND name LIKE ?", s.me, settingDelivers+"%").Error
	})
	close(s.closed)
}
