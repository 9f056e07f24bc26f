package send4

import (
	"fmt"
	"strings"

	"fenc/modes/session4"
	"fenc/wire/v4"
)

// answerTo gives the answers to a small file's requests to where they belong. It
// runs where answers are read, and so waits for nothing.
func (s *sending) answerTo(f *smallFile) func(message any) {
	s.mu.Lock()
	s.pending[f] = struct{}{}
	s.mu.Unlock()
	return func(message any) {
		switch m := message.(type) {
		case *v4.Received:
			s.end(f, m, received(m, int64(len(f.data)), f.digest))
		case *v4.Refused:
			s.end(f, nil, &session4.RefusalError{Reason: m.Reason, Again: m.Again, Text: m.Text})
		case *v4.Accept:
			if !f.asked || m.Flags != v4.AcceptWhole {
				s.broke("an offer accepted that was not made, or twice")
				return
			}
			f.asked = false
			s.accepted <- f // has room for every file that is asked about
		case *v4.Wait, *v4.Held:
		default:
			s.broke(fmt.Sprintf("%s answers a small file", nameOf(message)))
		}
	}
}

// numbered notes the number of a file's request. The session may end meanwhile, and with
// it the file.
func (s *sending) numbered(f *smallFile, number uint32) {
	s.mu.Lock()
	f.number = number
	s.mu.Unlock()
}

// broke ends a session whose server has broken the protocol.
func (s *sending) broke(how string) {
	s.giveUp(s.engine.settings.Lost("sending", fmt.Errorf("%w: %s", v4.ErrFrame, how)))
}

// nameOf is a message's name, as the specification has it.
func nameOf(message any) string { return strings.TrimPrefix(fmt.Sprintf("%T", message), "*v4.") }

// received checks a 2103 against what was read.
func received(m *v4.Received, size int64, digest v4.Digest) error {
	if m.Size != uint64(size) || m.Digest != digest {
		return fmt.Errorf("the server says that it stored %d bytes with the digest %s, which is not what was sent: %w", m.Size, m.Digest, errMismatch)
	}
	return nil
}

// end ends a small file, once: with an answer, an error, or neither, where the
// session is over and the next one sends it.
func (s *sending) end(f *smallFile, answer *v4.Received, err error) {
	s.mu.Lock()
	_, open := s.pending[f]
	delete(s.pending, f)
	number := f.number // of its latest request; 0 where the session ends before the first
	s.mu.Unlock()
	if !open {
		return
	}
	s.main.Forget(number)
	switch {
	case err != nil:
		s.engine.retry(s, f.item, int64(len(f.data)), err)
	case answer != nil:
		s.engine.succeed(f.item, f.state, answer)
	default:
		s.engine.putBack(f.item)
	}
	s.bytes.Release(int64(len(f.data)))
	s.files.Release(1)
	s.work.Done()
}

// endAll ends the small files that no answer will come for.
func (s *sending) endAll() {
	s.mu.Lock()
	open := make([]*smallFile, 0, len(s.pending))
	for f := range s.pending {
		open = append(open, f)
	}
	s.mu.Unlock()
	for _, f := range open {
		s.end(f, nil, nil)
	}
}
