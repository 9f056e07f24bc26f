package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/minio/minio-go/v7"

	"fenc/model/storage"
)

const maxShown = 200 // characters of what a store said

// answer returns the store's own words for an error; ok is false where it did not
// come to any.
func answer(err error) (a minio.ErrorResponse, ok bool) {
	ok = errors.As(err, &a)
	// The client's own complaints look alike, and have no number of HTTP's or this mark.
	return a, ok && a.StatusCode != 0 && a.RequestID != "minio"
}

// isGone reports whether the store has no such object or upload. What it calls an
// upload that it has not depends on the store.
func isGone(err error) bool {
	a, ok := answer(err)
	return ok && (a.Code == minio.NoSuchKey || a.Code == minio.NoSuchUpload)
}

// isOpen reports whether a request that ended with this error may have been done, or
// may yet be.
func isOpen(err error) bool {
	a, ok := answer(err)
	return err != nil && (!ok || a.StatusCode >= 500)
}

// mayPass reports whether a request that ended with this error is worth another try.
func mayPass(err error) bool {
	if errors.As(err, new(x509.UnknownAuthorityError)) || errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError)) {
		return false
	}
	if errors.Is(err, storage.ErrGone) || errors.Is(err, errOtherContent) || errors.Is(err, errDoneWith) {
		return false
	}
	a, ok := answer(err)
	if !ok {
		return !errors.As(err, &a) // a line that broke, not the client's own complaint
	}
	switch a.Code {
	case "SlowDown", "SlowDownWrite", "SlowDownRead", "Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestTimeout", "OperationAborted",
		minio.InternalError, minio.IncompleteBody, minio.BadDigest, "XAmzContentSHA256Mismatch": // damaged on the way
		return true
	case minio.NotImplemented, "XMinioStorageFull", "QuotaExceeded":
		return false
	}
	return a.StatusCode >= 500 && a.StatusCode != http.StatusInsufficientStorage ||
		a.StatusCode == http.StatusTooManyRequests || a.StatusCode == http.StatusRequestTimeout ||
		a.StatusCode == http.StatusConflict // with another request of this moment: no two want the same here
}

// explain says what was being done when err came, in the words of package storage
// where it has any. No secret is in it, whatever the store repeats.
func (s *Store) explain(err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	doing = "S3 store: " + fmt.Sprintf(doing, args...)
	if errors.Is(err, errDoneWith) { // whatever the store has said before
		return fmt.Errorf("%s: %w", doing, errDoneWith)
	}
	a, ok := answer(err)
	if !ok {
		if errors.Is(err, context.Canceled) || isOurs(err) {
			return fmt.Errorf("%s: %w", doing, err)
		}
		if of := (*url.Error)(nil); errors.As(err, &of) { // the address is long, and says no more than doing does
			err = of.Err
		}
		return errors.New(doing + ": " + s.masked(err.Error()))
	}
	said := fmt.Errorf("%s: the store answered %d %s: %q", doing, a.StatusCode, s.masked(a.Code), s.masked(a.Error()))
	switch {
	case a.Code == minio.NoSuchKey || a.Code == minio.NoSuchUpload:
		return fmt.Errorf("%w: %w", storage.ErrGone, said)
	case a.Code == minio.InvalidPart || a.Code == minio.InvalidPartOrder:
		return fmt.Errorf("%w: %w", storage.ErrMarks, said)
	case a.Code == minio.EntityTooLarge:
		return fmt.Errorf("%w: %w", storage.ErrTooLarge, said)
	case a.StatusCode == http.StatusInsufficientStorage || a.Code == "XMinioStorageFull" || strings.HasSuffix(a.Code, "QuotaExceeded"):
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, said)
	}
	return said
}

func isOurs(err error) bool {
	for _, e := range []error{
		storage.ErrGone, storage.ErrMarks, storage.ErrTooLarge, storage.ErrNoSpace, storage.ErrDegraded, storage.ErrSealed, errOtherContent, errDoneWith,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// masked is text that a store may have made, cut short and without secrets.
func (s *Store) masked(text string) string {
	for _, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, "[redacted]")
	}
	if runes := []rune(text); len(runes) > maxShown {
		text = string(runes[:maxShown]) + "…"
	}
	return text
}

var (
	// errOtherContent: what the store has is not what it was given.
	errOtherContent = errors.New("the store has other content than it was given")
	// errDoneWith: what was to be sent is of no use any more.
	errDoneWith = errors.New("no longer wanted")
)

// foreign is an error that the store has no part in.
type foreign struct{ error }

func (f foreign) Unwrap() error { return f.error }

// short is how long a request may take that moves little.
const short = 30 * time.Second

// retry tries something until it works, fails for good, stop is closed, or RetryFor
// has passed since it first failed. Each try may take as long as limit; 0 is no bound.
func (s *Store) retry(ctx context.Context, stop <-chan struct{}, limit time.Duration, try func(context.Context) error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 50*time.Millisecond, 5*time.Second
	var until time.Time
	for {
		err := within(ctx, limit, try)
		if ctx.Err() != nil && err != nil {
			return context.Cause(ctx)
		}
		if err == nil || !mayPass(err) {
			return err
		}
		pause := pauses.NextBackOff()
		if now := time.Now(); until.IsZero() {
			until = now.Add(s.options.RetryFor)
		} else if now.Add(pause).After(until) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			continue
		case <-ctx.Done():
		case <-stop:
		}
		timer.Stop()
		return fmt.Errorf("%w: %w", errDoneWith, err)
	}
}

func within(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return try(ctx)
}
