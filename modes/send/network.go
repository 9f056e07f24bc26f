package send

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// words is an error in plain words that keeps the one it speaks of.
type words struct {
	text string
	err  error
}

func (w *words) Error() string { return w.text }
func (w *words) Unwrap() error { return w.err }

// Reworded is err in the words of text.
func Reworded(err error, text string) error { return &words{text, err} }

// InWords says what happened to a connection, whose deadline was timeout away.
func InWords(err error, timeout time.Duration) error {
	if err == nil {
		return nil
	}
	var dns *net.DNSError
	var tlsHeader tls.RecordHeaderError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		return &words{"interrupted", context.Canceled}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), isTimeout(err):
		return &words{fmt.Sprintf("timed out after %s", timeout), err}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &words{"refused: nothing listens there; is fenc serve running, and is the port right?", err}
	case errors.As(err, &tlsHeader), strings.HasSuffix(err.Error(), "tls: no application protocol"): // an alert has no type to look for
		return &words{"what answers there is no fenc server of protocol 4: is the port right?", errors.Join(ErrOtherServer, err)}
	case errors.As(err, &dns):
		return &words{fmt.Sprintf("no address found for host %q: is the name right, and is there a network?", dns.Name), err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &words{"closed the connection", err}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &words{"broke off the connection", err}
	}
	return err
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
