package queue

import "time"

// Summary says what is in a queue.
type Summary struct {
	Waiting      int64     // files
	WaitingBytes int64     // of them
	Oldest       time.Time // since when the first of them waits; zero where none does
	Verified     int64     // files
	Failing      int64     // of those that wait, how many were tried in vain
}

// Summary counts what is in the queue.
func (q *Queue) Summary() (Summary, error) {
	var counted struct{ Waiting, Bytes, Oldest, Verified, Failing int64 }
	served, arguments := q.served()
	err := q.db.Raw(`SELECT COALESCE(SUM(waiting), 0) AS waiting, COALESCE(SUM(CASE WHEN waiting THEN size END), 0) AS bytes,
		COALESCE(MIN(CASE WHEN waiting THEN since END), 0) AS oldest, COALESCE(SUM(NOT waiting), 0) AS verified,
		COALESCE(SUM(waiting AND reason <> ''), 0) AS failing FROM files WHERE `+served, arguments...).Scan(&counted).Error
	s := Summary{Waiting: counted.Waiting, WaitingBytes: counted.Bytes, Verified: counted.Verified, Failing: counted.Failing}
	if counted.Oldest != 0 {
		s.Oldest = time.Unix(0, counted.Oldest)
	}
	return s, wrap("count its files", err)
}

// Failing returns up to limit files that were tried in vain, the first added first.
func (q *Queue) Failing(limit int) ([]File, error) {
	var rows []row
	err := q.db.Raw("SELECT * FROM files WHERE waiting AND reason <> '' ORDER BY seq LIMIT ?", limit).Scan(&rows).Error
	files := make([]File, 0, len(rows))
	for i := range rows {
		files = append(files, rows[i].file())
	}
	return files, wrap("list what was not verified", err)
}
