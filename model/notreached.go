package model

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// notReached is an error of connecting to PostgreSQL, in one line: the driver writes one
// for each address, twice where it has tried with and without encryption.
type notReached struct {
	text string
	err  error
}

func (e *notReached) Error() string { return e.text }
func (e *notReached) Unwrap() error { return e.err }

// inOneLine returns err, with a text of its own where it is one of connecting.
func inOneLine(err error) error {
	failed, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok {
		return err
	}
	tries := []error{failed.Unwrap()}
	if all, ok := tries[0].(interface{ Unwrap() []error }); ok {
		tries = all.Unwrap()
	}
	var reasons []string
	for _, try := range tries {
		if reason := notReachedFor(try); !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	return &notReached{fmt.Sprintf("no connection to the database %q as %q: %s", failed.Config.Database, failed.Config.User, strings.Join(reasons, "; ")), err}
}

// notReachedFor is why one address was not reached.
func notReachedFor(err error) string {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return refused.Message
	}
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		return name.Name + ": " + name.Err
	}
	if at, ok := errors.AsType[*net.OpError](err); ok && at.Addr != nil {
		if number, ok := errors.AsType[syscall.Errno](at.Err); ok {
			return at.Addr.String() + ": " + number.Error()
		}
		return at.Addr.String() + ": " + at.Err.Error()
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
