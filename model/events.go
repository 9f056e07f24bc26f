package model

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gorm.io/gorm"
)

// maxEventError bounds what an event keeps of its last failure, in bytes.
const maxEventError = 1000

// unpackedAfter is about how long a small file stays in its pack, out of the tree's
// sight.
const unpackedAfter = 500 * time.Millisecond

// ErrNoEvent: there is no such event.
var ErrNoEvent = errors.New("no such event")

func init() { refusals = append(refusals, ErrNoEvent, ErrNoFile) }

// record writes an event for each file and destination. owners has the files' clients.
func (c *Catalogue) record(tx *gorm.DB, kind EventKind, at Time, owners map[ID]Client, files ...File) error {
	if len(c.destinations) == 0 || len(files) == 0 {
		return nil
	}
	rows := make([]Event, 0, len(files)*len(c.destinations))
	for _, f := range files {
		e := Event{
			EventID: NewID(), Kind: kind, State: EventWaiting, Since: at, DueAt: at, FileID: f.ID, ClientID: f.ClientID, ClientName: owners[f.ClientID].Name,
			FileName: f.FileName, FilePath: f.FilePath, Size: f.Size, Checksum: f.Checksum, Digest: f.Digest, ModTime: f.ModTime,
			Version: f.Version, Protocol: f.Protocol, Object: f.Object, At: at,
		}
		if f.Pack != nil {
			e.DueAt = Time{at.Add(unpackedAfter)}
		}
		for _, d := range c.destinations {
			e.Destination = d
			rows = append(rows, e)
		}
	}
	return tx.CreateInBatches(rows, 500).Error
}

// announce tells News that events may have been written.
func (c *Catalogue) announce() {
	for _, news := range c.news {
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

// News receives a value after this process has written events for a destination.
func (c *Catalogue) News(destination string) <-chan struct{} { return c.news[destination] }

// Due lists events for a destination whose time has come, but for those numbered in
// busy: of each file the first that waits, the longest due first, at most limit.
//
// Of several processes on one catalogue, one has the events of a destination, and the
// others none, until that one has not asked for some seconds.
func (c *Catalogue) Due(destination string, busy []int64, limit int) ([]Event, error) {
	mine, err := c.engine.delivers(destination)
	if err != nil || !mine {
		return nil, err
	}
	if limit <= 0 { // asked to stay the one who delivers
		return nil, nil
	}
	var due []Event
	look := func(db *gorm.DB) error {
		q := db.Where("destination = ? AND state = ? AND due_at <= ?", destination, EventWaiting, Time{c.now()}).
			Where("NOT EXISTS (SELECT 1 FROM events AS earlier WHERE earlier.destination = events.destination AND earlier.file_id = events.file_id "+
				"AND earlier.seq < events.seq AND earlier.state = ?)", EventWaiting)
		if len(busy) > 0 {
			q = q.Where("seq NOT IN ?", busy)
		}
		return q.Order("due_at, seq").Limit(limit).Find(&due).Error
	}
	if err = c.read(look); err == nil && len(due) > 0 {
		err = c.engine.confirm(look)
	}
	if err != nil {
		return nil, err
	}
	return due, nil
}

// Delivered forgets an event that its destination has taken.
func (c *Catalogue) Delivered(e Event) error {
	return c.write(nobody, func(tx *gorm.DB) error { return tx.Delete(&Event{}, "seq = ?", e.Seq).Error })
}

// Postpone records that an event is to be delivered later: at e.DueAt, after
// e.Attempts failures, the last of which was e.Error.
func (c *Catalogue) Postpone(e Event) error { return c.settleEvent(e, EventWaiting) }

// Bury records that an event will not be delivered unless an operator wants it.
func (c *Catalogue) Bury(e Event) error { return c.settleEvent(e, EventDead) }

func (c *Catalogue) settleEvent(e Event, state EventState) error {
	for len(e.Error) > maxEventError || !utf8.ValidString(e.Error) {
		e.Error = strings.ToValidUTF8(e.Error[:min(len(e.Error), maxEventError)], "")
	}
	return c.write(nobody, func(tx *gorm.DB) error {
		return tx.Model(&Event{}).Where("seq = ?", e.Seq).
			Updates(map[string]any{"state": state, "attempts": e.Attempts, "due_at": e.DueAt, "error": strings.ReplaceAll(e.Error, "\x00", "")}).Error
	})
}

// ForgetDead forgets dead events, the oldest first, until no more than most are
// left. It returns how many it forgot.
func (c *Catalogue) ForgetDead(most int) (forgotten int64, err error) {
	err = c.write(nobody, func(tx *gorm.DB) error {
		var dead int64
		if err := tx.Model(&Event{}).Where("state = ?", EventDead).Count(&dead).Error; err != nil || dead <= int64(most) {
			return err
		}
		oldest := tx.Model(&Event{}).Select("seq").Where("state = ?", EventDead).Order("seq").Limit(int(dead) - most)
		gone := tx.Delete(&Event{}, "seq IN (?)", oldest)
		forgotten = gone.RowsAffected
		return gone.Error
	})
	return forgotten, err
}

// EventsOutside counts the events that wait for destinations which are not among
// those that the catalogue writes for.
func (c *Catalogue) EventsOutside() (counts map[string]int64, err error) {
	var rows []struct {
		Destination string
		Number      int64
	}
	err = c.read(func(db *gorm.DB) error {
		return db.Model(&Event{}).Select("destination, COUNT(*) AS number").Where("state = ?", EventWaiting).Group("destination").Scan(&rows).Error
	})
	counts = make(map[string]int64)
	for _, r := range rows {
		if !slices.Contains(c.destinations, r.Destination) {
			counts[r.Destination] = r.Number
		}
	}
	return counts, err
}

// EachEvent calls do with every event in its order, or with the dead ones alone.
func (c *Catalogue) EachEvent(dead bool, do func(Event) error) error {
	for after := int64(0); ; {
		var page []Event
		err := c.read(func(db *gorm.DB) error {
			q := db.Where("seq > ?", after)
			if dead {
				q = q.Where("state = ?", EventDead)
			}
			return q.Order("seq").Limit(1000).Find(&page).Error
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			after = e.Seq
			if err := do(e); err != nil {
				return err
			}
		}
	}
}

// Which names events: by the first digits of their id, at least 4; or all that are
// dead; or all for a destination.
type Which struct {
	ID          string
	Dead        bool
	Destination string
}

// RetryEvents has events delivered at once, with a whole time for retries before
// them. It returns how many, or ErrNoEvent.
func (c *Catalogue) RetryEvents(which Which) (int64, error) {
	return c.changeEvents(which, func(tx *gorm.DB, seqs []int64) error {
		now := Time{c.now()}
		return tx.Model(&Event{}).Where("seq IN ?", seqs).
			Updates(map[string]any{"state": EventWaiting, "attempts": 0, "since": now, "due_at": now}).Error
	})
}

// DropEvents forgets events. It returns how many, or ErrNoEvent.
func (c *Catalogue) DropEvents(which Which) (int64, error) {
	return c.changeEvents(which, func(tx *gorm.DB, seqs []int64) error { return tx.Delete(&Event{}, "seq IN ?", seqs).Error })
}

func (c *Catalogue) changeEvents(which Which, change func(tx *gorm.DB, seqs []int64) error) (n int64, err error) {
	err = c.write(nobody, func(tx *gorm.DB) error {
		var seqs []int64
		if which.ID == "" {
			q := tx.Model(&Event{})
			if which.Dead {
				q = q.Where("state = ?", EventDead)
			}
			if which.Destination != "" {
				q = q.Where("destination = ?", which.Destination)
			}
			if err := q.Pluck("seq", &seqs).Error; err != nil {
				return err
			}
		} else {
			low, high, err := idRange(which.ID)
			if err != nil {
				return err
			}
			if err := tx.Model(&Event{}).Where("event_id >= ? AND event_id <= ?", low, high).Pluck("seq", &seqs).Error; err != nil {
				return err
			}
			if len(seqs) == 0 && n == 0 {
				return ErrNoEvent
			}
		}
		n = max(n, int64(len(seqs))) // where it runs again, they may be gone already
		for part := range slices.Chunk(seqs, 1000) {
			if err := change(tx, part); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// idRange is the range of the ids whose text begins with prefix.
func idRange(prefix string) (low, high ID, err error) {
	digits := len(ID{}) * 2
	if len(prefix) < 4 || len(prefix) > digits {
		return low, high, ErrNoEvent
	}
	low, lowErr := ParseID(prefix + strings.Repeat("0", digits-len(prefix)))
	high, highErr := ParseID(prefix + strings.Repeat("F", digits-len(prefix)))
	if cmp.Or(lowErr, highErr) != nil {
		return low, high, ErrNoEvent
	}
	return low, high, nil
}
