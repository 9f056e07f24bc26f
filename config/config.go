// Package config reads fenc's settings, server.toml, transfer.toml and me.toml,
// and the server's key, and writes what fenc itself writes of them.
//
// A setting comes from the first of these that has it: the command line
// (Override), the environment (FENC_ and the key in upper case), the file, the
// default. Loading refuses what is not TOML, unknown keys and wrong types;
// Validate, run after the flags, refuses values out of range. Either way the
// error says where the value stood, what is wrong with it and what to write.
package config

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Server is server.toml: how fenc serve listens, stores and limits.
type Server struct {
	Listen                  string   `toml:"listen"`                         // host:port; an empty host is every address, port 0 a free one
	Advertise               string   `toml:"advertise"`                      // host:port that invites name; empty leaves it to the caller
	Storage                 string   `toml:"storage" is:"storage"`           // directory of the received files, or buckets: see Buckets
	Database                string   `toml:"database" is:"dsn"`              // catalogue: the path of a SQLite file, or postgres://…
	Key                     string   `toml:"key" is:"path"`                  // file of the private key; empty: see KeyPath
	Control                 string   `toml:"control" is:"path"`              // socket for fenc's own commands; empty: see ControlPath
	Protocols               []int    `toml:"protocols"`                      // versions spoken, 3 and 4; nil: see ServedProtocols
	RequirePQ               bool     `toml:"require_pq"`                     // refuse a key exchange that is not post-quantum
	Registration            string   `toml:"registration"`                   // "open", "invite" or "closed" to new clients
	MaxFileSize             Size     `toml:"max_file_size"`                  // bytes of one file; 0 is the protocol's own limit
	MaxSessions             int      `toml:"max_sessions"`                   // sessions of clients at once, 1 to 1000000
	MaxSessionsPerAddress   int      `toml:"max_sessions_per_address"`       // of them from one address, 1 to 1000000
	MaxHandshakesPerAddress int      `toml:"max_handshakes_per_address"`     // connections that one address may begin in a second, over ten, 1 to 1000000
	MaxUnadmitted           int      `toml:"max_unadmitted"`                 // connections at once whose client is not admitted yet, 1 to 1000000
	MaxOpenUploads          int      `toml:"max_open_uploads"`               // unfinished files of one client, 1 to 10000
	MaxClientSize           Size     `toml:"max_client_size"`                // bytes of all files of one client; 0 is no bound
	MaxClientFiles          int      `toml:"max_client_files"`               // files of one client; 0 is no bound
	KeepPartial             Duration `toml:"keep_partial"`                   // how long an unfinished file waits to be resumed, 1h to 365d
	KeepVersions            int      `toml:"keep_versions"`                  // earlier versions of a file that are kept, 0 to 1000
	ExpireAfter             Duration `toml:"expire_after"`                   // how long after its receipt a file is removed, 1h to 36500d; 0 is never
	IdleTimeout             Duration `toml:"idle_timeout"`                   // longest silence of a client, 1s to 24h
	ShutdownGrace           Duration `toml:"shutdown_grace"`                 // how long transfers may finish after SIGTERM, 0s to 1h
	StatusListen            string   `toml:"status_listen"`                  // host:port of the status page, an empty host is this machine alone; empty: nowhere
	ProxyProtocolFrom       []string `toml:"proxy_protocol_from" is:"texts"` // addresses and prefixes of balancers, whose connections begin with a PROXY header; empty: none
	MetricsListen           string   `toml:"metrics_listen"`                 // host:port of metrics and health, an empty host is this machine alone; empty: nowhere
	Confine                 bool     `toml:"confine"`                        // have the kernel deny files that are none of the server's, where it can
	LogLevel                string   `toml:"log_level"`                      // "debug", "info", "warn" or "error"
	LogFormat               string   `toml:"log_format"`                     // "text" or "json"

	HookCommand       []string `toml:"hook_command" is:"command"`     // run for every verified file: a program and its arguments; empty: none
	WebhookURL        string   `toml:"webhook_url"`                   // called for every verified file; empty: none
	WebhookSecretFile string   `toml:"webhook_secret_file" is:"path"` // file of the secret that its calls are signed with: see LoadWebhookSecret
	HookTimeout       Duration `toml:"hook_timeout"`                  // longest run of a hook and longest call of the webhook, 1s to 24h
	HookParallel      int      `toml:"hook_parallel"`                 // of each of them at once, 1 to 64
	HookRetryFor      Duration `toml:"hook_retry_for"`                // how long one file's event is tried again, 0s to 365d
	GateCommand       []string `toml:"gate_command" is:"command"`     // says whether content may become a file: a program and its arguments; empty: none
	GateTimeout       Duration `toml:"gate_timeout"`                  // longest that it may take, 1s to 24h
	GateParallel      int      `toml:"gate_parallel"`                 // of it at once, 1 to 64

	S3 S3 `toml:"s3" is:"table"` // the store of the buckets

	origins `toml:"-"`
}

// DefaultServer returns the settings of a server that has no file.
func DefaultServer() Server {
	return Server{
		Listen:                  "127.0.0.1:1234",
		Storage:                 "files",
		Database:                "fenc.db",
		RequirePQ:               true,
		Registration:            "open",
		MaxSessions:             4096,
		MaxSessionsPerAddress:   1024,
		MaxHandshakesPerAddress: 100,
		MaxUnadmitted:           512,
		MaxOpenUploads:          64,
		KeepPartial:             7 * day,
		HookTimeout:             Duration(time.Minute),
		HookParallel:            4,
		HookRetryFor:            3 * day,
		GateTimeout:             Duration(5 * time.Minute),
		GateParallel:            4,
		S3:                      DefaultS3(),
		IdleTimeout:             Duration(60 * time.Second),
		ShutdownGrace:           Duration(30 * time.Second),
		Confine:                 true,
		LogLevel:                "info",
		LogFormat:               "text",
	}
}

// ServedProtocols returns the protocol versions to speak on an address that is
// a loopback address or not: those that are set or, where none are, 3 and 4 on
// a loopback address and 4 alone elsewhere.
func (s Server) ServedProtocols(loopback bool) []int {
	switch {
	case s.Protocols != nil:
		return slices.Clone(s.Protocols)
	case loopback:
		return []int{3, 4}
	}
	return []int{4}
}

// Transfer is transfer.toml: where fenc send sends, as whom, and what.
type Transfer struct {
	Server         string    `toml:"server"`                 // host:port
	ServerKey      []string  `toml:"server_key" is:"texts"`  // fingerprints of its key, "SHA256:…"; empty: none is pinned yet
	Name           string    `toml:"name"`                   // to register under, 1 to 127 bytes; empty leaves it to the caller
	Files          []string  `toml:"files" is:"source"`      // to send where the command line names none: see ExpandFiles
	Exclude        []string  `toml:"exclude"`                // patterns of what to leave out, as .gitignore has them
	ExcludeFrom    []string  `toml:"exclude_from" is:"path"` // paths of files that hold such patterns, one a line
	FollowLinks    bool      `toml:"follow_links"`           // send what symbolic links lead to; false skips them
	MinSize        Size      `toml:"min_size"`               // bytes of the shortest file that is sent
	MaxSize        Size      `toml:"max_size"`               // bytes of the longest file that is sent; 0 is no bound
	BWLimit        Bandwidth `toml:"bwlimit"`                // bytes a second, each way, by the time of the day
	Protocol       int       `toml:"protocol"`               // 3 or 4
	RequirePQ      bool      `toml:"require_pq"`             // refuse a key exchange that is not post-quantum
	Me             string    `toml:"me" is:"path"`           // path of me.toml; empty: looked up
	Streams        int       `toml:"streams"`                // connections that carry the files, 1 to 16
	Attempts       int       `toml:"attempts"`               // resends after a checksum mismatch, 0 to 100
	RetryFor       Duration  `toml:"retry_for"`              // how long to try again after a failure that may pass, 0s to 7d
	Timeout        Duration  `toml:"timeout"`                // longest silence of the server, 1s to 24h
	ConnectTimeout Duration  `toml:"connect_timeout"`        // longest wait for the connection, 100ms to 1h
	Queue          string    `toml:"queue" is:"path"`        // path of what fenc watch remembers; empty: in the user's state directory
	LogLevel       string    `toml:"log_level"`              // of fenc watch: "debug", "info", "warn" or "error"
	LogFormat      string    `toml:"log_format"`             // of fenc watch: "text" or "json"
	Watch          []Watch   `toml:"watch" is:"tables"`      // folders that fenc watch sends from
	origins        `toml:"-"`
}

// DefaultTransfer returns the settings of a client that has no file.
func DefaultTransfer() Transfer {
	return Transfer{
		Server:         "127.0.0.1:1234",
		Protocol:       4,
		RequirePQ:      true,
		Streams:        1,
		Attempts:       3,
		RetryFor:       Duration(10 * time.Minute),
		Timeout:        Duration(2 * time.Minute),
		ConnectTimeout: Duration(10 * time.Second),
		LogLevel:       "info",
		LogFormat:      "text",
	}
}

// Override sets a key from the command line: the flag --KEY with its text, or
// several texts for a list. A relative path is relative to the working
// directory. The error names the flag.
func (s *Server) Override(key string, text ...string) error {
	return s.override(s, key, text)
}

// Override sets a key from the command line: the flag --KEY with its text, or
// several texts for a list. A relative path is relative to the working
// directory. The error names the flag.
func (t *Transfer) Override(key string, text ...string) error {
	return t.override(t, key, text)
}

// Validate returns an error for the first key whose value is out of range.
func (s *Server) Validate() error {
	return cmp.Or(s.first([]check{
		{"listen", s.Listen, checkAddress(s.Listen, true)},
		{"advertise", s.Advertise, checkAdvertise(s.Advertise)},
		{"storage", s.Storage, checkStorage(s.Storage)},
		{"database", s.Database, checkDatabase(s.Database)},
		{"key", s.Key, checkNoNUL(s.Key)},
		{"control", s.Control, checkNoNUL(s.Control)},
		{"protocols", s.Protocols, checkProtocols(s.Protocols)},
		{"registration", s.Registration, checkOneOf(s.Registration, "open", "invite", "closed")},
		{"max_file_size", s.MaxFileSize, checkRange(s.MaxFileSize, 0, Size(math.MaxInt64))},
		{"max_sessions", s.MaxSessions, checkRange(s.MaxSessions, 1, 1_000_000)},
		{"max_sessions_per_address", s.MaxSessionsPerAddress, checkRange(s.MaxSessionsPerAddress, 1, 1_000_000)},
		{"max_handshakes_per_address", s.MaxHandshakesPerAddress, checkRange(s.MaxHandshakesPerAddress, 1, 1_000_000)},
		{"max_unadmitted", s.MaxUnadmitted, checkRange(s.MaxUnadmitted, 1, 1_000_000)},
		{"max_open_uploads", s.MaxOpenUploads, checkRange(s.MaxOpenUploads, 1, 10_000)},
		{"max_client_size", s.MaxClientSize, checkRange(s.MaxClientSize, 0, Size(math.MaxInt64))},
		{"max_client_files", s.MaxClientFiles, checkRange(s.MaxClientFiles, 0, math.MaxInt32)},
		{"keep_partial", s.KeepPartial, CheckKeepPartial(s.KeepPartial)},
		{"keep_versions", s.KeepVersions, checkRange(s.KeepVersions, 0, 1000)},
		{"expire_after", s.ExpireAfter, CheckExpireAfter(s.ExpireAfter)},
		{"hook_command", s.HookCommand, checkCommand(s.HookCommand)},
		{"webhook_url", s.WebhookURL, checkWebhook(s.WebhookURL)},
		{"webhook_secret_file", s.WebhookSecretFile, checkSecretFile(s.WebhookURL, s.WebhookSecretFile)},
		{"hook_timeout", s.HookTimeout, checkRange(s.HookTimeout, second, day)},
		{"hook_parallel", s.HookParallel, checkRange(s.HookParallel, 1, 64)},
		{"hook_retry_for", s.HookRetryFor, checkRange(s.HookRetryFor, 0, 365*day)},
		{"gate_command", s.GateCommand, checkCommand(s.GateCommand)},
		{"gate_timeout", s.GateTimeout, checkRange(s.GateTimeout, second, day)},
		{"gate_parallel", s.GateParallel, checkRange(s.GateParallel, 1, 64)},
		{"idle_timeout", s.IdleTimeout, checkRange(s.IdleTimeout, second, day)},
		{"shutdown_grace", s.ShutdownGrace, checkRange(s.ShutdownGrace, 0, hour)},
		{"status_listen", s.StatusListen, checkOwnListen(s.StatusListen)},
		{"proxy_protocol_from", s.ProxyProtocolFrom, checkEach(s.ProxyProtocolFrom, "entry", checkPrefix)},
		{"metrics_listen", s.MetricsListen, checkOwnListen(s.MetricsListen)},
		{"log_level", s.LogLevel, checkOneOf(s.LogLevel, "debug", "info", "warn", "error")},
		{"log_format", s.LogFormat, checkOneOf(s.LogFormat, "text", "json")},
	}), s.S3.Validate())
}

// Validate returns an error for the first key whose value is out of range.
func (t *Transfer) Validate() error {
	return cmp.Or(t.first([]check{
		{"server", t.Server, checkAddress(t.Server, false)},
		{"server_key", t.ServerKey, checkFingerprints(t.ServerKey)},
		{"name", t.Name, checkName(t.Name, true)},
		{"files", t.Files, checkEach(t.Files, "path", checkPath)},
		{"exclude", t.Exclude, checkEach(t.Exclude, "pattern", checkExclude)},
		{"exclude_from", t.ExcludeFrom, checkEach(t.ExcludeFrom, "path", checkPath)},
		{"min_size", t.MinSize, checkRange(t.MinSize, 0, Size(math.MaxInt64))},
		{"max_size", t.MaxSize, checkMaxSize(t.MinSize, t.MaxSize)},
		{"protocol", t.Protocol, checkProtocol(t.Protocol)},
		{"me", t.Me, checkNoNUL(t.Me)},
		{"streams", t.Streams, checkRange(t.Streams, 1, 16)},
		{"attempts", t.Attempts, checkRange(t.Attempts, 0, 100)},
		{"retry_for", t.RetryFor, checkRange(t.RetryFor, 0, 7*day)},
		{"timeout", t.Timeout, checkRange(t.Timeout, second, day)},
		{"connect_timeout", t.ConnectTimeout, checkRange(t.ConnectTimeout, Duration(100*time.Millisecond), hour)},
		{"queue", t.Queue, checkNoNUL(t.Queue)},
		{"log_level", t.LogLevel, checkOneOf(t.LogLevel, "debug", "info", "warn", "error")},
		{"log_format", t.LogFormat, checkOneOf(t.LogFormat, "text", "json")},
	}), validateEach(t.Watch))
}
