package serve3

import (
	"errors"
	"io"

	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/stats"
)

// counted counts content as it comes.
type counted struct {
	io.Reader
	counts *stats.Session
	of     *transfer
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.counts.Received(n)
	c.of.done.Add(int64(n))
	return n, err
}

// show makes t what is under way; nil: nothing is.
func (s *Session) show(t *transfer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underWay = t
}

// transfers lists what is under way.
func (s *Session) transfers() []stats.Transfer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.underWay == nil {
		return nil
	}
	t := s.underWay
	return []stats.Transfer{{Path: t.name, Bytes: t.most, Done: min(t.done.Load(), t.most), Since: t.begun}}
}

// resultOf counts an attempt that ended with this verdict, or for this reason.
func resultOf(verdict string, reason error) stats.Result {
	switch {
	case reason == nil && verdict == "verified":
		return stats.Verified
	case reason == nil:
		return stats.Mismatch
	case errors.Is(reason, ErrRefused), errors.Is(reason, ErrProtocol), errors.Is(reason, model.ErrPathTaken), errors.Is(reason, model.ErrNoReplace),
		errors.Is(reason, model.ErrRevoked), errors.Is(reason, model.ErrNotAllowed), errors.Is(reason, model.ErrQuota), errors.Is(reason, model.ErrManyFiles):
		return stats.Refused
	case errors.Is(reason, storage.ErrNoSpace), errors.Is(reason, storage.ErrDegraded), errors.Is(reason, model.ErrUnavailable), errors.Is(reason, model.ErrBroken):
		return stats.Failed
	}
	return stats.Interrupted
}
