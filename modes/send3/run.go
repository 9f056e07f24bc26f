package send3

import (
	"context"
	"errors"

	"fenc/modes/send"
)

// Run sends the files one after the other and reports how each gets on and ends. first is
// the session that registration may have opened, or nil. A connection that is
// lost costs the file under way: the next file gets a new one.
//
// It returns an error, and reports the rest with it, when nothing more can be
// sent: the server cannot be reached, refuses the client, or ctx has ended.
func Run(ctx context.Context, settings Settings, me Identity, first *Session, files []*send.Source, reporter send.Reporter) error {
	s := first
	defer func() {
		if s != nil {
			s.Close()
		}
	}()
	for i, src := range files {
		if s == nil {
			var err error
			if s, err = open(ctx, settings, me); err != nil {
				for _, rest := range files[i:] {
					reporter.End(nil, send.Result{Name: rest.Name, Size: rest.Size(), Err: err})
				}
				return err
			}
		}
		progress := &send.Progress{Name: src.Name, Size: src.Size()}
		reporter.Begin(progress)
		result := s.SendFile(src, progress)
		src.Close()
		var lost *connectionError
		if errors.As(result.Err, &lost) {
			s.Close()
			s = nil
		}
		reporter.End(progress, result)
	}
	return nil
}

// open connects and agrees on a key.
func open(ctx context.Context, settings Settings, me Identity) (*Session, error) {
	s, err := Connect(ctx, settings)
	if err != nil {
		return nil, err
	}
	if err := s.AgreeKey(me); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}
