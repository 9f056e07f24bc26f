// Package get4 brings a client's own files back by protocol 4: lists of them, and
// their content, verified, below one directory.
package get4

import (
	"context"
	"fmt"
	"strings"

	"fenc/modes/session4"
	"fenc/wire"
	"fenc/wire/v4"
)

// page is a page of a list.
type page struct {
	entries []v4.Entry
	more    bool
}

// List gives the client's files below prefix, a folder, or the file of that name,
// or all where it is empty, in the order of their paths' bytes. An error of yield
// ends it.
func List(ctx context.Context, s *session4.Session, prefix string, yield func(v4.Entry) error) error {
	for after := ""; ; {
		p, err := nextPage(ctx, s, prefix, after)
		if err != nil {
			return err
		}
		for _, e := range p.entries {
			if err := yield(e); err != nil {
				return err
			}
			after = e.Path
		}
		if !p.more {
			return nil
		}
	}
}

// nextPage asks for the files behind the path after. What the server answers is a
// page of what was asked for, or an error.
func nextPage(ctx context.Context, s *session4.Session, prefix, after string) (page, error) {
	answer := make(chan any, 1)
	var number uint32
	err := s.Begin(func(message any) {
		select {
		case answer <- message:
		default:
		}
	}, func(n uint32) any {
		number = n
		return &v4.List{Number: n, Limit: v4.MaxEntries, Prefix: prefix, After: after}
	})
	defer func() { s.Forget(number) }()
	if err != nil {
		return page{}, err
	}
	select {
	case message := <-answer:
		switch m := message.(type) {
		case *v4.Entries:
			return page{m.Entries, m.More}, checkPage(m, prefix, after)
		case *v4.Refused:
			return page{}, &session4.RefusalError{Reason: m.Reason, Again: m.Again, Text: m.Text}
		}
		return page{}, fmt.Errorf("%w: %T answers a request for a list", v4.ErrFrame, message)
	case <-s.Done():
		return page{}, s.Err()
	case <-ctx.Done():
		return page{}, ctx.Err()
	}
}

func checkPage(m *v4.Entries, prefix, after string) error {
	if m.More && len(m.Entries) == 0 {
		return fmt.Errorf("%w: the server's list goes on with nothing", v4.ErrFrame)
	}
	for _, e := range m.Entries {
		switch err := wire.CheckPath(e.Path); {
		case err != nil:
			return fmt.Errorf("%w: the server lists a %w", v4.ErrFrame, err)
		case e.Path <= after:
			return fmt.Errorf("%w: the server lists %q behind %q", v4.ErrFrame, e.Path, after)
		case prefix != "" && e.Path != prefix && !strings.HasPrefix(e.Path, prefix+"/"):
			return fmt.Errorf("%w: the server lists %q, which is not below %q", v4.ErrFrame, e.Path, prefix)
		case e.Size > 1<<62 || e.Mode > 0o777:
			return fmt.Errorf("%w: the server lists %q with %d bytes and mode %o", v4.ErrFrame, e.Path, e.Size, e.Mode)
		}
		after = e.Path
	}
	return nil
}
