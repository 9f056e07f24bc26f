package send3

import (
	"errors"
	"fmt"
	"time"

	"fenc/modes/send"
	"fenc/wire/v3"
)

// errServerChecksum is one attempt's mismatch.
var errServerChecksum = errors.New("the server's checksum differs")

// SendFile sends one file, again after each mismatch as often as the settings
// allow, and returns how it went.
func (s *Session) SendFile(src *send.Source, progress *send.Progress) send.Result {
	begun := time.Now()
	result := send.Result{Name: src.Name, Size: src.Size()}
	defer func() { result.Took = time.Since(begun) }()
	result.Err = s.sendFile(src, progress, &result)
	result.Took = time.Since(begun)
	return result
}

func (s *Session) sendFile(src *send.Source, progress *send.Progress, result *send.Result) error {
	name, err := v3.NewName(src.Name)
	if err != nil {
		return err
	}
	for {
		if err := s.prepare(src); err != nil {
			if result.Attempts > 0 {
				return errors.Join(err, s.conclude(v3.CodeGiveUp, name))
			}
			return err
		}
		result.Size = src.Size()
		result.Attempts++
		progress.Start(0)
		checksum, err := s.attempt(src, progress, name) // 1103 → 2103
		switch {
		case err == nil:
			if err := s.conclude(v3.CodeValid, name); err != nil { // 1104 → 2104
				return fmt.Errorf("not confirmed, so send it again: %w", err)
			}
			result.Checksum = fmt.Sprintf("crc32 %08x", checksum)
			return nil
		case !errors.Is(err, errServerChecksum) && !errors.Is(err, send.ErrChanged):
			return err
		case result.Attempts <= s.settings.Attempts:
			if err := s.conclude(v3.CodeResend, name); err != nil { // 1105 → 2104
				return err
			}
		default:
			if errors.Is(err, errServerChecksum) {
				err = fmt.Errorf("%w in %d attempts; the server keeps nothing of it", send.ErrChecksum, result.Attempts)
			}
			return errors.Join(err, s.conclude(v3.CodeGiveUp, name)) // 1106 → 2104
		}
	}
}

// prepare opens the source for an attempt and checks its size.
func (s *Session) prepare(src *send.Source) error {
	if err := src.Rewind(); err != nil {
		return err
	}
	return CheckSize(src)
}

// CheckSize refuses a file that protocol 3 cannot carry.
func CheckSize(src *send.Source) error {
	if src.Size() > v3.MaxFileSize {
		return fmt.Errorf("%d bytes are over protocol 3's limit of %d bytes (its size fields have 32 bits)", src.Size(), int64(v3.MaxFileSize))
	}
	return nil
}

// attempt sends the file once and compares checksums: errServerChecksum if they
// differ, send.ErrChanged if the file did not hold still. After any other error
// the session cannot go on.
func (s *Session) attempt(src *send.Source, progress *send.Progress, name v3.Name) (checksum uint32, err error) {
	const (
		why   = " (its log says why; it may have refused the file's size or name, or have no space)"
		doing = "sending the content" + why
	)
	size := v3.CipherSize(src.Size())
	request := &v3.File{ClientID: s.me.ID, ContentSize: uint32(size), FileName: name}
	if err := v3.WriteRequest(s.conn, s.me.ID, v3.CodeFile, request, uint32(size)); err != nil {
		return 0, s.cutOff(doing, err)
	}
	checksum, missing, err := writeContent(s.conn, src, src.Size(), s.key, s.settings.Waits, progress.Move)
	var unreadable *readError
	if errors.As(err, &unreadable) {
		return 0, &connectionError{unreadable}
	}
	if err != nil {
		return 0, s.cutOff(doing, err)
	}
	s.settings.Waits.Enter(send.Asking)
	defer s.settings.Waits.Leave(send.Asking)
	var answer v3.FileReceived
	if _, err := s.answer(&answer, v3.CodeFileReceived); err != nil {
		return 0, s.cutOff("answering the content"+why, err)
	}
	if answer.ClientID != s.me.ID || answer.FileName != name || answer.ContentSize != request.ContentSize {
		return 0, &connectionError{fmt.Errorf("server %s answered about another file (%q, %d bytes)",
			s.settings.Server, answer.FileName.String(), answer.ContentSize)}
	}
	if err := src.Changed(); err != nil {
		return 0, err
	}
	if missing > 0 {
		return 0, fmt.Errorf("%w: %d bytes could not be read", send.ErrChanged, missing)
	}
	if answer.Checksum != checksum {
		return 0, errServerChecksum
	}
	return checksum, nil
}

// conclude sends the verdict, 1104, 1105 or 1106, and awaits 2104.
func (s *Session) conclude(verdict v3.Code, name v3.Name) error {
	s.settings.Waits.Enter(send.Asking)
	defer s.settings.Waits.Leave(send.Asking)
	doing := fmt.Sprintf("concluding with %s", verdict)
	if err := v3.WriteRequest(s.conn, s.me.ID, verdict, &v3.Verdict{ClientID: s.me.ID, FileName: name}, 0); err != nil {
		return s.cutOff(doing, err)
	}
	if _, err := s.answer(nil, v3.CodeReceived); err != nil {
		return s.cutOff(doing, err)
	}
	return nil
}
