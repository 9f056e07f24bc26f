package serve3

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"fenc/model"
	"fenc/modes/stats"
	"fenc/wire"
	"fenc/wire/v3"
)

// transfer is one attempt at one file.
type transfer struct {
	name     string       // as it was sent
	size     int64        // bytes of plaintext received
	most     int64        // bytes of plaintext announced
	done     atomic.Int64 // bytes of ciphertext received
	checksum uint32       // that 2103 carries
	damaged  bool         // the content could not be decrypted; its checksum matches nothing
	begun    time.Time
}

// takeFile receives one attempt at a file and settles it by the client's verdict.
func (s *Session) takeFile(ctx context.Context, h v3.RequestHeader) error {
	if err := s.setBusy(true); err != nil {
		return err
	}
	t := &transfer{begun: time.Now()}
	defer s.show(nil)
	verdict, err := s.attempt(ctx, h, t)
	if err != nil {
		s.logFile(t, "failed", err)
		return fmt.Errorf("file %q: %w", t.name, err)
	}
	s.logFile(t, verdict, nil)
	return s.setBusy(false)
}

// attempt takes the content, answers with its checksum, hears the verdict and
// acts on it. Unless the file is kept, no byte of it stays.
func (s *Session) attempt(ctx context.Context, h v3.RequestHeader, t *transfer) (verdict string, err error) {
	if err := s.checkSize(h); err != nil {
		return "", err
	}
	request, err := v3.ReadFile(s.conn, h)
	if err != nil {
		return "", err
	}
	if err := s.checkOwner(request.ClientID); err != nil {
		return "", err
	}
	if t.name, err = request.FileName.Text(); err != nil {
		return "", err
	}
	path, err := v3.StoredPath(t.name)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrRefused, err)
	}
	t.most = int64(request.ContentSize) - 1
	s.show(t)
	incoming, err := s.server.archive.Receive(ctx, model.Upload{
		ClientID: s.client.ID, FileName: t.name, Path: path, SparePath: v3.AlternativePath(t.name),
		Size: int64(request.ContentSize) - 1, Protocol: v3.Version,
	})
	if err != nil {
		return "", err
	}
	defer func() {
		if discardErr := incoming.Discard(); discardErr != nil {
			s.log.Error("unverified bytes stay until the next start", "file", wire.Printable(t.name), "error", discardErr)
		}
	}()

	content := newContent(&counted{s.conn, s.counts, t}, s.key, int64(request.ContentSize))
	if t.size, err = incoming.Write(ctx, content); err != nil {
		return "", fmt.Errorf("receive content: %w", err)
	}
	t.checksum, t.damaged = content.checksum, content.damaged
	err = v3.WriteResponse(s.conn, v3.CodeFileReceived, &v3.FileReceived{
		ClientID: request.ClientID, ContentSize: request.ContentSize, FileName: request.FileName, Checksum: t.checksum,
	})
	if err != nil {
		return "", fmt.Errorf("answer with the checksum: %w", err)
	}

	code, err := s.awaitVerdict(request)
	switch {
	case err != nil:
		return "", fmt.Errorf("await verdict: %w", err)
	case code == v3.CodeValid && t.damaged:
		return "", fmt.Errorf("%w: content that cannot be decrypted was called valid", ErrProtocol)
	case code == v3.CodeValid:
		whole := time.Now()
		if _, err := incoming.Keep(ctx, t.size, t.checksum); err != nil {
			return "", fmt.Errorf("keep: %w", err)
		}
		s.server.stats.Committed(time.Since(whole))
		s.files, s.bytes = s.files+1, s.bytes+t.size
		verdict = "verified"
	default:
		if err := incoming.Discard(); err != nil {
			return "", fmt.Errorf("remove unverified bytes: %w", err)
		}
		verdict = map[v3.Code]string{v3.CodeResend: "mismatch, resending", v3.CodeGiveUp: "mismatch, given up"}[code]
	}
	if err := v3.WriteResponse(s.conn, v3.CodeReceived, nil); err != nil && code != v3.CodeValid {
		return "", fmt.Errorf("acknowledge the verdict: %w", err)
	}
	// The first client reads 3 of the 7 bytes of its last 2104 and closes: an
	// error here takes nothing from a file that is kept. The next read ends the
	// session.
	return verdict, nil
}

// checkSize refuses a file that is too long before a byte of it is read.
func (s *Session) checkSize(h v3.RequestHeader) error {
	limit := s.settings.MaxFileSize
	if limit <= 0 || limit > v3.MaxFileSize {
		return nil // the header's own field holds no more
	}
	if content := int64(h.PayloadSize) - v3.FileFixedSize; content > v3.CipherSize(limit) {
		return fmt.Errorf("%w: %d bytes announced, max_file_size is %d", ErrRefused, content, limit)
	}
	return nil
}

// awaitVerdict reads the client's word on the attempt it has just made.
func (s *Session) awaitVerdict(of v3.File) (v3.Code, error) {
	h, err := s.nextRequest()
	if err != nil {
		return 0, err
	}
	switch h.Code {
	case v3.CodeValid, v3.CodeResend, v3.CodeGiveUp:
	default:
		return 0, outOfOrder(h.Code, v3.CodeValid)
	}
	var verdict v3.Verdict
	if err := s.readVerdict(h, &verdict); err != nil {
		return 0, err
	}
	if verdict.FileName != of.FileName {
		return 0, fmt.Errorf("%w: %s is about %q", ErrProtocol, h.Code, verdict.FileName.String())
	}
	return h.Code, nil
}

// readVerdict reads the payload of 1104, 1105 or 1106 and checks whose it is.
func (s *Session) readVerdict(h v3.RequestHeader, verdict *v3.Verdict) error {
	if err := v3.ReadPayload(s.conn, h, verdict); err != nil {
		return err
	}
	if err := s.checkOwner(h.ClientID); err != nil {
		return err
	}
	return s.checkOwner(verdict.ClientID)
}

// acknowledgeGivingUp answers a 1106 that no file came before.
func (s *Session) acknowledgeGivingUp(h v3.RequestHeader) error {
	var verdict v3.Verdict
	if err := s.readVerdict(h, &verdict); err != nil {
		return fmt.Errorf("given up: %w", err)
	}
	s.log.Info("file given up", "file", wire.Printable(verdict.FileName.String()))
	return v3.WriteResponse(s.conn, v3.CodeReceived, nil)
}

// checkOwner refuses a message that carries another client's id.
func (s *Session) checkOwner(id v3.ClientID) error {
	if id != v3.ClientID(s.client.ID) {
		return fmt.Errorf("%w: id %s in a message of client %s", ErrProtocol, id, s.client.ID)
	}
	return nil
}

// logFile writes the file's line to the log, and counts it.
func (s *Session) logFile(t *transfer, verdict string, reason error) {
	ended := stats.File{Path: t.name, Bytes: t.size, Seconds: time.Since(t.begun).Seconds(), Result: resultOf(verdict, reason)}
	if reason != nil {
		ended.Reason = reason.Error()
	} else if ended.Result == stats.Mismatch {
		ended.Reason = verdict
	}
	s.counts.Ended(ended)
	attributes := []any{"file", wire.Printable(t.name), "bytes", t.size, "seconds", time.Since(t.begun).Seconds()}
	if reason != nil {
		s.log.Warn("file", append(attributes, "verdict", verdict, "reason", reason.Error())...)
		return
	}
	checksum := fmt.Sprintf("%08x", t.checksum)
	if t.damaged {
		checksum = "none (content cannot be decrypted)"
	}
	s.log.Info("file", append(attributes, "checksum", checksum, "verdict", verdict)...)
}
