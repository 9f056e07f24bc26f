package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sync/semaphore"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// IsShared reports whether database is the address of one in PostgreSQL, where
// several servers may share a catalogue, and not the path of a file.
func IsShared(database string) bool {
	return strings.HasPrefix(database, "postgres://") || strings.HasPrefix(database, "postgresql://")
}

// DatabaseName is what people may read of a database's address: the path of a file,
// or host and name of one in PostgreSQL. The address itself may hold a password.
func DatabaseName(database string) string {
	if !IsShared(database) {
		return database
	}
	u, err := url.Parse(database)
	if err != nil {
		return "postgres"
	}
	host := u.Host
	if host == "" {
		host = u.Query().Get("host")
	}
	return strings.TrimSuffix("postgres://"+host+path.Join("/", u.Path), "/")
}

// Numbers of what a catalogue in PostgreSQL takes of the database and bears of it.
const (
	connections    = 16               // at once, of one process
	writing        = 12               // of them at most with a transaction
	connectTimeout = 5 * time.Second  // for one host of the address
	longPatience   = 5 * time.Second  // how long what failed for the connection is tried again
	longestWrite   = 10 * time.Second // for one try of a transaction
	longestRead    = 30 * time.Second // for one try of a query of a server
	longestLook    = 10 * time.Minute // and of a command beside it, which may look at everything
)

// programName is what PostgreSQL lists connections of fenc by.
const programName = "fenc"

// limits have the database end the transaction of a process that is frozen, and one
// that waits for it wait longer than that. And it is to tell, whatever its user has set,
// of a commit whose wait for a standby was cut short.
const limits = "set_config('client_min_messages', 'warning', true), set_config('idle_in_transaction_session_timeout', '4s', true), set_config('lock_timeout', '6s', true), set_config('statement_timeout', '8s', true)"

// openPostgres opens a catalogue in PostgreSQL. What its address leaves open is taken
// from the environment, as psql does: PGPASSWORD, PGPASSFILE, PGSSLROOTCERT, ….
func (c *Catalogue) openPostgres(address string, o Options) error {
	config, err := pgx.ParseConfig(address)
	if err != nil { // which may quote the address
		return errors.New(`the address is not as PostgreSQL's clients read it, or names a file that cannot be read: write postgres://USER@HOST:PORT/NAME?sslmode=…, each part with %-escapes for what is special in addresses, and the password into PGPASSWORD or ~/.pgpass`)
	}
	if config.Password == "" {
		config.Password = o.Password
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	now := o.Now
	s := &shared{c: c, closed: make(chan struct{}), me: NewID().String(), writers: semaphore.NewWeighted(writing), delivering: make(map[string]time.Time), writes: !o.ReadOnly, patience: longPatience, longestRead: longestRead, known: make(map[ID]knownRights)}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.Routine == "SyncRepWaitForLSN" { // the text is in the database's language
			s.cutShort.Add(1)
		}
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	config.DialFunc = dialer.DialContext
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = cmp.Or(o.Program, programName)
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	c.now = func() time.Time { return now().Add(time.Duration(s.ahead.Load())).Truncate(time.Microsecond) } // as the columns keep it
	if o.ReadOnly || o.Beside {
		s.longestRead = longestLook
	}
	c.engine, c.view = s, s
	settings := gormConfig(o)
	settings.DisableAutomaticPing = true
	settings.SkipDefaultTransaction = true
	if c.db, err = gorm.Open(postgres.New(postgres.Config{Conn: pool}), settings); err != nil {
		return errors.Join(err, pool.Close())
	}
	return nil
}

// prepare implements engine.
func (s *shared) prepare(o Options) error {
	if o.ReadOnly || o.Beside {
		s.patience = 0 // who waits is told at once
		defer func() { s.patience = longPatience }()
		if err := s.persist(longestRead, func(db *gorm.DB) error { return checkSchema(db) }); err != nil {
			return err
		}
	} else if err := s.migrate(); err != nil {
		return err
	}
	return s.persist(longestRead, func(db *gorm.DB) (err error) {
		if s.changesSeen, err = managed(db); err != nil {
			return err
		}
		return s.align(db)
	})
}

// schema implements engine.
func (s *shared) schema() (version int64, err error) {
	err = s.persist(longestRead, func(db *gorm.DB) (err error) {
		version, err = schemaOf(db)
		return err
	})
	return version, err
}

// migrationKey is the advisory lock of whoever makes or changes tables.
const migrationKey = catalogueKey + 1

// longestMigration bounds the making or changing of tables, and the wait for another
// process that does.
const longestMigration = 10 * time.Minute

// migrate brings the tables up to date. Of several processes that start at once, one
// does and the others wait.
func (s *shared) migrate() error {
	return s.persist(longestMigration, func(db *gorm.DB) error {
		return db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec("SELECT pg_advisory_xact_lock(?)", int64(migrationKey)).Error; err != nil {
				return err
			}
			return migrate(tx, finishTables)
		})
	})
}

// finishTables gives new tables what PostgreSQL has and SQLite has not, or has by
// itself.
func finishTables(tx *gorm.DB) error {
	var encoding string
	if err := tx.Raw("SHOW server_encoding").Scan(&encoding).Error; err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database has the encoding %s: make one with ENCODING 'UTF8'", encoding)
	}
	statements := []string{
		"CREATE SEQUENCE changes AS bigint",
		"CREATE INDEX idx_files_object ON files (object)",
		"CREATE INDEX idx_uploads_state ON uploads (state, started_at)",
	}
	// Names and paths are compared by their bytes, whatever the database's language.
	for table, columns := range map[string][]string{
		"clients": {"name varchar(127)", "folder varchar(255)", "folder_key varchar(255)"},
		"files":   {"file_name varchar(255)", "file_path varchar(255)", "path_key varchar(255)"},
		"uploads": {"file_name varchar(255)"},
		"invites": {"name varchar(127)"},
	} {
		for _, column := range columns {
			name, kind, _ := strings.Cut(column, " ")
			statements = append(statements, fmt.Sprintf(`ALTER TABLE %s ALTER COLUMN %s TYPE %s COLLATE "C"`, table, name, kind))
		}
	}
	for _, statement := range statements {
		if err := tx.Exec(statement).Error; err != nil {
			return err
		}
	}
	return nil
}

// Doubts returns what speaks against trusting the database with what is called
// verified, as far as it can be seen: nothing of SQLite.
func (c *Catalogue) Doubts(ctx context.Context) ([]string, error) {
	s, ok := c.engine.(*shared)
	if !ok {
		return nil, nil
	}
	return s.doubts(ctx)
}

// doubts asks the database. Of standbys only those are seen that its user may see:
// pg_monitor lets it.
func (s *shared) doubts(ctx context.Context) (doubts []string, err error) {
	var state struct {
		Commit, Sync          string
		Waits                 bool
		Standbys, Synchronous int
	}
	err = s.c.db.WithContext(ctx).Raw(`SELECT current_setting('synchronous_commit') AS commit, current_setting('fsync') AS sync,
		current_setting('synchronous_standby_names') <> '' AS waits,
		(SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state IS NOT NULL) AS standbys,
		(SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS synchronous`).Scan(&state).Error
	if err != nil {
		return nil, s.judge(err)
	}
	if state.Commit == "off" {
		doubts = append(doubts, "synchronous_commit is off: what is called verified may be lost when the database's machine fails")
	}
	if state.Sync == "off" {
		doubts = append(doubts, "fsync is off: what is called verified may be lost when the database's machine fails")
	}
	if state.Standbys > 0 && state.Synchronous == 0 {
		doubts = append(doubts, "no standby is synchronous: what is called verified may be lost when one takes over; set synchronous_standby_names")
	}
	if state.Waits && state.Commit == "local" {
		doubts = append(doubts, "synchronous_commit is local: it waits for no standby")
	}
	return doubts, nil
}
