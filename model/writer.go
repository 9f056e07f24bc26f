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
func (c *Catalogue) write(do func(tx *gorm.DB) error) error {
	j := job{do: do, done: make(chan error, 1)}
	select {
	case c.jobs <- j:
		return <-j.done
	case <-c.closed:
		return ErrClosed
	}
}

// runWriter serves write until the catalogue is closed.
func (c *Catalogue) runWriter() {
	defer close(c.writerDone)
	for {
		select {
		case j := <-c.jobs:
			c.commit(c.gather(j))
		case <-c.closed:
			return
		}
	}
}

// gather collects what waits already; it never waits for more.
func (c *Catalogue) gather(first job) []job {
	batch := []job{first}
	for len(batch) < maxBatch {
		select {
		case j := <-c.jobs:
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// commit runs a batch in one transaction, each job under a savepoint of its own.
func (c *Catalogue) commit(batch []job) {
	results := make([]error, len(batch))
	if err := c.Err(); err != nil {
		for _, j := range batch {
			j.done <- err
		}
		return
	}
	err := c.db.Transaction(func(tx *gorm.DB) error {
		for i, j := range batch {
			results[i] = tx.Transaction(j.do)
			if fault := c.judge(results[i]); errors.Is(fault, ErrBroken) {
				return fault
			}
		}
		return nil
	})
	if err != nil {
		err = c.judge(fmt.Errorf("commit to the catalogue: %w", err))
	}
	for i, j := range batch {
		if results[i] == nil || err != nil && !isRefusal(results[i]) {
			results[i] = err
		}
		j.done <- c.judge(results[i])
	}
}

// SQLite's primary result codes that leave the database whole: the write did
// not happen and may be tried again (https://sqlite.org/rescode.html).
const (
	sqliteBusy     = 5
	sqliteLocked   = 6
	sqliteReadOnly = 8
	sqliteFull     = 13
	sqliteCantOpen = 14
)

// judge sorts an error of the database. What a caller can be told stays as it
// is; a database that refuses for now becomes ErrUnavailable; anything else
// means that nobody knows what reached the disk: it becomes ErrBroken, and the
// process is told by Broken to end and settle anew.
func (c *Catalogue) judge(err error) error {
	if err == nil || isRefusal(err) || errors.Is(err, ErrBroken) || errors.Is(err, ErrUnavailable) {
		return err
	}
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
	c.breakOnce.Do(func() {
		c.brokenBy = err
		close(c.broken)
	})
	return err
}

// isRefusal reports whether err is the catalogue's own answer and no fault.
func isRefusal(err error) bool {
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
