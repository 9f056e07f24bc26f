package model

import (
	"sync"

	"gorm.io/gorm"
)

// confirmations are waits for the database's standby that several share.
type confirmations struct {
	turn sync.Mutex // one after the other

	mu   sync.Mutex
	next *confirmation // not begun yet
}

type confirmation struct {
	done chan struct{}
	err  error
}

// confirm implements engine. A row may be seen that no standby has: its writer's wait
// was cut short, or the database crashed and came back meanwhile. It would be lost to
// whoever was told of it, if the standby took over now.
func (s *shared) confirm() error {
	if !s.standby.Load() {
		return nil
	}
	a := &s.asked
	a.mu.Lock()
	mine, first := a.next, a.next == nil
	if first {
		mine = &confirmation{done: make(chan struct{})}
		a.next = mine
	}
	a.mu.Unlock()
	if !first {
		<-mine.done
		return mine.err
	}
	a.turn.Lock()
	defer a.turn.Unlock()
	a.mu.Lock()
	a.next = nil // who has read since waits for the next one
	a.mu.Unlock()
	mine.err = s.write(nobody, func(*gorm.DB) error { return nil })
	close(mine.done)
	return mine.err
}

// confirm implements engine: what is in memory is on the disk.
func (l *local) confirm() error { return nil }
