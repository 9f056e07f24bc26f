package model

import (
	"errors"
	"fmt"

	"gorm.io/gorm"
)

// maxBatch bounds how many writes share one transaction.
const maxBatch = 256

// job is one caller's write, waiting for its turn.
type job struct {
	do   func(tx *gorm.DB) error
	done chan error // receives the result once it is durable, or refused
}

// write runs do inside a transaction and returns when it is durable. Writes that
// wait at the same time share one transaction, and so one sync of the disk; a
// write that returns an error is undone alone. do may run only on the handle it
// is given.
func (l *local) write(_ order, do func(tx *gorm.DB) error) error {
	j := job{do: do, done: make(chan error, 1)}
	select {
	case l.jobs <- j:
		return <-j.done
	case <-l.closed:
		return ErrClosed
	}
}

// runWriter serves write until the catalogue is closed.
func (l *local) runWriter() {
	defer close(l.writerDone)
	for {
		select {
		case j := <-l.jobs:
			l.commit(l.gather(j))
		case <-l.closed:
			return
		}
	}
}

// gather collects what waits already; it never waits for more.
func (l *local) gather(first job) []job {
	batch := []job{first}
	for len(batch) < maxBatch {
		select {
		case j := <-l.jobs:
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// commit runs a batch in one transaction, each job under a savepoint of its own.
func (l *local) commit(batch []job) {
	results := make([]error, len(batch))
	if err := l.c.Err(); err != nil {
		for _, j := range batch {
			j.done <- err
		}
		return
	}
	err := l.c.db.Transaction(func(tx *gorm.DB) error {
		for i, j := range batch {
			results[i] = tx.Transaction(j.do)
			if fault := l.judge(results[i]); errors.Is(fault, ErrBroken) {
				return fault
			}
		}
		return nil
	})
	if err != nil {
		err = l.judge(fmt.Errorf("commit to the catalogue: %w", err))
	}
	for i, j := range batch {
		if results[i] == nil || err != nil && !isRefusal(results[i]) {
			results[i] = err
		}
		j.done <- l.judge(results[i])
	}
}

// SQLite's primary result codes (https://sqlite.org/rescode.html). All but those of
// damage leave the database whole: the write did not happen and may be tried again.
const (
	sqliteBusy     = 5
	sqliteLocked   = 6
	sqliteReadOnly = 8
	sqliteCorrupt  = 11
	sqliteFull     = 13
	sqliteCantOpen = 14
	sqliteNotADB   = 26
)

const remedyOfDamage = "move it away, with its -wal and -shm, and restore it from a backup, or make it anew with fenc check --rebuild"

// explainDamage says what to do about a database that SQLite cannot read.
func explainDamage(err error) error {
	if code, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok && (code.Code()&0xff == sqliteCorrupt || code.Code()&0xff == sqliteNotADB) {
		return fmt.Errorf("%w: %s", err, remedyOfDamage)
	}
	return err
}

// judge sorts an error of the database. What a caller can be told stays as it
// is; a database that refuses for now becomes ErrUnavailable; anything else
// means that nobody knows what reached the disk: it becomes ErrBroken, and the
// process is told by Broken to end and settle anew.
func (l *local) judge(err error) error {
	if err == nil || isRefusal(err) || errors.Is(err, ErrBroken) || errors.Is(err, ErrUnavailable) {
		return err
	}
	l.c.faults.Add(1)
	if code, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok {
		switch code.Code() & 0xff {
		case sqliteBusy, sqliteLocked, sqliteReadOnly, sqliteFull, sqliteCantOpen:
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	err = fmt.Errorf("%w: %w", ErrBroken, err)
	l.c.breakOnce.Do(func() {
		l.c.brokenBy = err
		close(l.c.broken)
	})
	return err
}
