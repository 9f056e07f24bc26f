package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// DatabasePasswordName is what systemd's credential is called that holds the
// password of a database.
const DatabasePasswordName = "database_password"

// isPostgres reports whether a database is named by an address in PostgreSQL, in which
// a password may stand.
func isPostgres(database string) bool {
	return strings.HasPrefix(database, "postgres://") || strings.HasPrefix(database, "postgresql://")
}

// InPostgres reports whether the catalogue is in PostgreSQL: several servers may then
// share it, and there is no file of it.
func (s Server) InPostgres() bool { return isPostgres(s.Database) }

// Home is the folder of what the server keeps for itself: that of the database or,
// where that is none of this machine's files, of the key.
func (s Server) Home() string {
	if s.InPostgres() {
		return filepath.Dir(s.KeyPath())
	}
	return filepath.Dir(s.Database)
}

// KeyPath returns the file of the server's private key: Key or, where that is
// empty, server.key beside the database; in the working directory where that is in
// PostgreSQL.
func (s Server) KeyPath() string {
	const name = "server.key"
	if s.InPostgres() {
		return cmp.Or(s.Key, name)
	}
	return cmp.Or(s.Key, filepath.Join(filepath.Dir(s.Database), name))
}

// ControlPath returns the socket by which fenc's own commands ask the running server:
// Control or, where that is empty, one beside the database; beside the key where that
// is in PostgreSQL.
func (s Server) ControlPath() string {
	if s.InPostgres() {
		return cmp.Or(s.Control, filepath.Join(s.Home(), "fenc.sock"))
	}
	return cmp.Or(s.Control, s.Database+".sock")
}

// DatabasePassword returns the password of the database that systemd has for the
// server, empty if it has none: the address, PGPASSWORD and ~/.pgpass say it as well.
func (l Lookup) DatabasePassword() (Secret, error) {
	path, ok := l.Credential(DatabasePasswordName)
	if !ok {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the database's password: %w", err)
	}
	return Secret(strings.TrimRight(string(text), "\r\n")), nil
}

// checkDatabase accepts a path and an address in PostgreSQL. Its errors have nothing
// of an address.
func checkDatabase(database string) error {
	if !isPostgres(database) {
		if scheme := schemeOf(database); scheme != "" {
			return fmt.Errorf("%s:// is not known", cut(scheme, maxShown))
		}
		return checkPath(database)
	}
	u, err := url.Parse(database)
	switch {
	case err != nil:
		return errors.New("no address, or one in which a special character of name or password stands as itself and not as %-escape")
	case strings.Trim(u.Path, "/") == "" && u.Query().Get("dbname") == "":
		return errors.New("no name of a database behind the host")
	case u.Fragment != "":
		return errors.New("a # that is not written %23")
	}
	return checkNoNUL(database)
}
