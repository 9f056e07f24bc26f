package model

import (
	"sync"

	"gorm.io/gorm"
)

// confirmations are looks whose wait for the database's standby several share.
type confirmations struct {
	turn sync.Mutex // one after the other

	mu   sync.Mutex
	next *confirmation // not begun yet
}

type confirmation struct {
	looks []func(db *gorm.DB) error
	done  chan struct{}
	err   error
}

// confirm implements engine. A row may be seen that no standby has: its writer's wait
// was cut short, or the database crashed and came back meanwhile. It would be lost to
// whoever was told of it, if the standby took over now. The commit says so only of the
// database that it goes to: of two that are up, one after the other may be asked.
func (s *shared) confirm(look func(db *gorm.DB) error) error {
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
	mine.looks = append(mine.looks, look)
	a.mu.Unlock()
	if !first {
		<-mine.done
		return mine.err
	}
	a.turn.Lock()
	defer a.turn.Unlock()
	a.mu.Lock()
	a.next = nil // who comes now waits for the next one
	a.mu.Unlock()
	mine.err = s.write(nobody, func(tx *gorm.DB) error {
		for _, look := range mine.looks {
			if err := look(tx); err != nil {
				return err
			}
		}
		return nil
	})
	close(mine.done)
	return mine.err
}

// confirm implements engine: what is in memory is on the disk.
func (l *local) confirm(func(db *gorm.DB) error) error { return nil }
