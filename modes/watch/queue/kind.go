package queue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrNoQueue: what is at a path is something else.
var ErrNoQueue = errors.New("is no queue of fenc watch")

// checkKind returns ErrNoQueue where something else is at path, which it does not touch:
// no database, or one with tables that are not a queue's. Of a new queue all may be in the
// log that SQLite keeps beside it.
func checkKind(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	defer f.Close()
	const magic = "SQLite format 3\x00" // https://sqlite.org/fileformat.html, 1.3.1
	head := make([]byte, len(magic))
	switch n, err := io.ReadFull(f, head); {
	case err == io.EOF:
		return nil
	case err != nil && err != io.ErrUnexpectedEOF:
		return fmt.Errorf("queue: %w", err)
	case string(head[:n]) != magic:
		return fmt.Errorf("%s %w", path, ErrNoQueue)
	}
	q, err := open(path, "immutable")
	if err != nil {
		return nil // whoever opens it in earnest says why
	}
	var tables, columns int64
	err = q.db.Raw("SELECT COUNT(*) FROM sqlite_master WHERE type = 'table'").Scan(&tables).Error
	if err == nil {
		err = q.db.Raw("SELECT COUNT(*) FROM pragma_table_info('files') WHERE name IN ('root', 'seq', 'waiting')").Scan(&columns).Error
	}
	if closeErr := q.closeDatabase(); closeErr != nil {
		return fmt.Errorf("queue %s: %w", path, closeErr)
	}
	if err == nil && tables > 0 && columns < 3 {
		return fmt.Errorf("%s %w", path, ErrNoQueue)
	}
	return nil
}
