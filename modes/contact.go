package modes

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"fenc/config"
	"fenc/modes/bandwidth"
	"fenc/modes/send"
	"fenc/modes/session4"
	"fenc/wire/v4"
)

// contact is what a command needs to talk to a server by protocol 4.
type contact struct {
	streams  Streams
	settings config.Transfer
	source   config.Source
	// acceptNew trusts a server's key that is seen for the first time.
	acceptNew bool
	// noInput never asks.
	noInput bool
	// waits is whether the command tries again, for as long as retry_for says; reporter,
	// unless nil, is told of it.
	waits    bool
	reporter send.Reporter

	mePath string
	me     session4.Identity
	known  bool   // me.toml is there
	fresh  bool   // me.Key was made by this run
	before string // the client whose me.toml a fresh key takes the place of; empty: none

	limit *bandwidth.Limit // that all sessions share; nil: none
}

// senderFlags say which server files are sent to, and as whom.
func senderFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "read settings from `FILE` (default: transfer.toml, where there is one)"},
		&cli.StringFlag{Name: "me", Usage: "identity `FILE`; written if it does not exist (FENC_ME; default: me.toml)"},
		&cli.StringFlag{Name: "server", Usage: "send to `ADDR`, host:port (FENC_SERVER; default: 127.0.0.1:1234)"},
		&cli.StringFlag{Name: "name", Usage: "register as `NAME` (FENC_NAME; default: you@this-machine)"},
		&cli.StringFlag{Name: "server-key", Usage: "trust the server whose key has this `FINGERPRINT` (FENC_SERVER_KEY)"},
		&cli.BoolFlag{Name: "accept-new", Usage: "trust a server's key that is seen for the first time, without asking", DisableDefaultText: true},
		&cli.BoolFlag{Name: "no-input", Usage: "never ask", DisableDefaultText: true},
		&cli.StringFlag{Name: "streams", Usage: "send over `N` connections, 1 to 16 (FENC_STREAMS; default: 1)"},
	}
}

// only4Remedy is what to do about an identity of protocol 3 in a command that speaks
// protocol 4 alone.
const only4Remedy = "this works by protocol 4 alone: become a client of it by an invite (fenc join --dir DIR), and name its identity with --me"

// newContact reads me.toml, where there is one. only4 is what to do if it is of protocol 3.
func newContact(s Streams, settings config.Transfer, source config.Source, only4 string) (*contact, error) {
	k := &contact{streams: s, settings: settings, source: source}
	k.mePath, k.known = config.System().MePath(settings.Me, source)
	if !k.known {
		return k, nil
	}
	me, err := config.LoadMe(k.mePath)
	if err != nil {
		return nil, &usageError{err}
	}
	if me.Protocol() != v4.Version {
		return nil, usagef("%s is an identity of protocol %d, which protocol 4 cannot use: %s", k.mePath, me.Protocol(), only4)
	}
	if settings.Name != "" && settings.Name != me.Name {
		return nil, usagef("the name %q is asked for and %s is of %q: drop the name, or use --me with another file to register it", settings.Name, k.mePath, me.Name)
	}
	k.me.Name = me.Name
	if k.me.Key, err = v4.ParseIdentity(me.PrivateKey.Reveal()); err != nil {
		return nil, usagef("%s: %w", k.mePath, err)
	}
	return k, nil
}

// to is how the server is reached.
func (k *contact) to() session4.Settings {
	to := session4.Settings{
		Server: k.settings.Server, RequirePQ: k.settings.RequirePQ, Software: software(),
		ConnectTimeout: time.Duration(k.settings.ConnectTimeout), Timeout: time.Duration(k.settings.Timeout),
	}
	to.Insist = k.waits && k.settings.Origin("retry_for") != "" // who chose it waits for a server that is to come; else a slip is likelier
	if b := k.settings.BWLimit; b.Bounds() && k.limit == nil {
		k.limit = bandwidth.New(b.At)
	}
	to.Limit = k.limit
	for _, text := range k.settings.ServerKey {
		f, err := v4.ParseFingerprint(text)
		if err != nil {
			panic(err) // validated
		}
		to.Pins = append(to.Pins, f)
	}
	return to
}

func software() string { return "fenc/" + Version }

// pin makes sure that the server's key is known: where none is, it is asked for,
// shown, and written, before anything else is said to the server.
func (k *contact) pin(ctx context.Context) error {
	if len(k.settings.ServerKey) > 0 {
		return nil
	}
	var key v4.Fingerprint
	err := k.insisting(ctx, func() (err error) {
		key, err = probe(ctx, k.to())
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case k.acceptNew:
	case k.noInput || !isTerminal(k.streams.In):
		return usagef("the server at %s shows the key %s, which nobody here has confirmed: compare it with the one that fenc serve logs there, and set server_key in transfer.toml (or --server-key); --accept-new trusts it unseen", k.settings.Server, key)
	default:
		fmt.Fprintf(k.streams.Err, "The server at %s is not known yet. It shows the key\n\n    %s\n\nfenc serve logs its key at every start. Is it this one? [yes/no] ", k.settings.Server, key)
		if err := confirmed(ctx, k.streams); err != nil {
			return err
		}
	}
	k.settings.ServerKey = []string{key.String()}
	return k.savePin()
}

// probe asks a server for its key.
func probe(ctx context.Context, to session4.Settings) (v4.Fingerprint, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*to.ConnectTimeout)
	defer cancel()
	c, err := (&net.Dialer{Timeout: to.ConnectTimeout}).DialContext(ctx, "tcp", to.Server)
	if err != nil {
		return v4.Fingerprint{}, to.NotReached(err)
	}
	defer c.Close()
	key, err := v4.Probe(ctx, c)
	if err != nil {
		return v4.Fingerprint{}, to.Lost("asking for its key", err)
	}
	return key, nil
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// confirmed reads a yes.
func confirmed(ctx context.Context, s Streams) error {
	line, err := s.readLine(ctx, s.In, 100)
	if err != nil {
		return err
	}
	switch line {
	case "yes\n", "y\n", "yes\r\n", "y\r\n":
		return nil
	}
	return usagef("the server's key was not confirmed; nothing was sent")
}

// readLine reads a line of at most limit bytes, or what there is of one. The end of ctx
// ends it, even while r is silent; reading goes on then until the process ends.
func (s Streams) readLine(ctx context.Context, r io.Reader, limit int64) (string, error) {
	type read struct {
		line string
		err  error
	}
	done := make(chan read, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(r, limit)).ReadString('\n')
		done <- read{line, err}
	}()
	select {
	case r := <-done:
		if r.err == io.EOF {
			r.err = nil
		}
		return r.line, r.err
	case <-ctx.Done():
		if isTerminal(r) {
			fmt.Fprintln(s.Err) // below the question
		}
		return "", &interrupted{errors.New("nothing was done")}
	}
}

// savePin writes the server's keys where the next run finds them: into the
// transfer.toml that names this server, or a new one beside me.toml.
func (k *contact) savePin() error {
	keys := k.settings.ServerKey
	if k.source.Path == "" {
		path := filepath.Join(filepath.Dir(k.mePath), config.TransferFile)
		err := config.WriteTransfer(path, k.settings.Server, keys)
		if errors.Is(err, fs.ErrExist) {
			fmt.Fprintf(k.streams.Err, "fenc: %s is there already and was not used: the server's key is not kept; pass --server-key %s\n", path, keys[0])
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(k.streams.Err, "fenc: the server's key is kept in %s\n", path)
		return nil
	}
	file, _, err := config.Lookup{WorkDir: "."}.LoadTransfer(k.source.Path)
	if err != nil {
		return &usageError{err}
	}
	if file.Server != k.settings.Server {
		fmt.Fprintf(k.streams.Err, "fenc: %s is about another server (%s): the key is not kept; pass --server-key %s\n", k.source.Path, file.Server, keys[0])
		return nil
	}
	if err := config.PinServerKey(k.source.Path, keys); err != nil {
		return err
	}
	fmt.Fprintf(k.streams.Err, "fenc: the server's key is kept in %s\n", k.source.Path)
	return nil
}

// open opens a session, registering at the first contact: the key is on the disk
// before the server hears of it, the id before anything is sent under it.
func (k *contact) open(ctx context.Context, run *session4.Run) (_ *session4.Session, err error) {
	if k.known {
		return session4.Open(ctx, k.to(), k.me, run, 0)
	}
	k.me.Name = k.settings.Name
	if k.me.Token == (v4.Token{}) || k.me.Name == "" {
		if k.me.Name, err = registrationName(k.settings.Name); err != nil {
			return nil, &usageError{err}
		}
	}
	if !k.fresh { // the same key at each attempt: the server may have registered it and its answer been lost
		if k.me.Key, err = v4.NewIdentity(); err != nil {
			return nil, err
		}
		k.fresh = true
	}
	prepare := config.PrepareMe
	if k.before != "" {
		prepare = config.PrepareMeInstead
	}
	file, err := prepare(k.mePath, config.Secret(k.me.Key.Text()), k.me.Name)
	if err != nil {
		return nil, &usageError{err}
	}
	defer func() { err = errors.Join(err, file.Discard()) }()
	s, err := session4.Open(ctx, k.to(), k.me, run, 0)
	if err != nil {
		return nil, err
	}
	k.me.Name = cmp.Or(s.Welcome.Name, k.me.Name)
	if err := file.CommitAs(k.me.Name, s.Welcome.ClientID.String()); err != nil {
		s.Close()
		return nil, err
	}
	k.known, k.me.Token = true, v4.Token{}
	switch k.before {
	case k.me.Name:
		fmt.Fprintf(k.streams.Err, "fenc: %q has another key at %s from now on, in %s: keep it secret, keep a copy; the one before is in %s\n", k.me.Name, k.settings.Server, k.mePath, file.Kept())
	case "":
		fmt.Fprintf(k.streams.Err, "fenc: registered as %q at %s; your identity is in %s: keep it secret, keep a copy\n", k.me.Name, k.settings.Server, k.mePath)
	default:
		fmt.Fprintf(k.streams.Err, "fenc: registered as %q at %s; your identity is in %s: keep it secret, keep a copy; that of %q, which was there, is in %s: name it with --me to be %[4]q\n",
			k.me.Name, k.settings.Server, k.mePath, k.before, file.Kept())
	}
	return s, nil
}

// openPatiently is openAgain, for as long as retry_for says where that was chosen.
func (k *contact) openPatiently(ctx context.Context, run *session4.Run) (s *session4.Session, err error) {
	err = k.insisting(ctx, func() (err error) {
		s, err = k.openAgain(ctx, run)
		return err
	})
	return s, err
}

// insisting does what needs the server, again and again where retry_for was chosen.
func (k *contact) insisting(ctx context.Context, do func() error) error {
	if !k.to().Insist {
		return do()
	}
	retry := session4.Retry{For: time.Duration(k.settings.RetryFor), Reporter: k.reporter}
	if retry.Reporter == nil {
		retry.Reporter = noticing(func(why error, pause time.Duration) {
			fmt.Fprintf(k.streams.Err, "fenc: %v; trying again in %s\n", why, pause.Round(100*time.Millisecond))
		})
	}
	return retry.Do(ctx, true, func() (done bool, err error) {
		err = do()
		return err == nil, err
	})
}

// noticing is a send.Reporter that is told of pauses alone.
type noticing func(why error, pause time.Duration)

func (noticing) Found(files, bytes int64)               {}
func (noticing) Counted()                               {}
func (noticing) Begin(*send.Progress)                   {}
func (noticing) End(*send.Progress, send.Result)        {}
func (noticing) Skip(path, why string)                  {}
func (f noticing) Retry(why error, pause time.Duration) { f(why, pause) }

// openAgain is open, again and with the same key where the connection is lost
// before the answer: the server may have registered the key, and used the invite up for it.
func (k *contact) openAgain(ctx context.Context, run *session4.Run) (*session4.Session, error) {
	for pause := 200 * time.Millisecond; ; pause *= 2 {
		s, err := k.open(ctx, run)
		var lost *session4.ConnectionError
		if err == nil || !errors.As(err, &lost) || !lost.Reached || errors.Is(err, v4.ErrFrame) || pause > 5*time.Second {
			return s, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// explain adds to an error of a session what to do about it.
func (k *contact) explain(err error) error {
	var key *v4.ServerKeyError
	var refusal *session4.RefusalError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &key):
		return &changedKey{k.settings.Server, k.settings.Origin("server_key"), key}
	case errors.As(err, &refusal):
		return fmt.Errorf("%w%s", err, k.remedyFor(refusal.Reason))
	}
	return hintAtDefaults(err, k.settings, k.source)
}

// remedyFor says what a refused client can do.
func (k *contact) remedyFor(reason v4.Reason) string {
	if k.known && (reason == v4.ReasonNotAdmitted || reason == v4.ReasonNameInUse) { // it would know the key of me.toml
		return fmt.Sprintf(": it does not know the key in %s: bring the present me.toml of %q (--me), or ask the server's operator for an invite to another key (fenc clients rekey), and use it with fenc join", k.mePath, k.me.Name)
	}
	switch reason {
	case v4.ReasonNotAdmitted:
		return ": ask the server's operator for an invite (fenc invite), and use it with fenc join"
	case v4.ReasonNameInUse:
		return fmt.Sprintf(": somebody is %q at %s already: choose another name with --name, or bring the me.toml that it was registered with (--me)", k.me.Name, k.settings.Server)
	case v4.ReasonInviteUsed, v4.ReasonInviteExpired, v4.ReasonInviteUnknown:
		return ": ask the server's operator for a new invite"
	case v4.ReasonRevoked:
		return ": ask the server's operator, who can bring this client back by an invite to another key (fenc clients rekey) for fenc join"
	case v4.ReasonNoSpace, v4.ReasonDegraded, v4.ReasonWriteFailed, v4.ReasonUnavailable, v4.ReasonFault:
		return ": the server's operator finds more in its log; once that is mended, sending again goes on where this ended"
	case v4.ReasonOtherName:
		return ": leave --name out, or register the other name with another me.toml (--me)"
	}
	return ""
}

// changedKey is a server that has another key than the one that is pinned.
type changedKey struct {
	server, from string // where the pin comes from
	err          *v4.ServerKeyError
}

func (e *changedKey) Error() string {
	return fmt.Sprintf(`THE SERVER'S KEY HAS CHANGED.
  server:      %s
  pinned key:  %s   (%s)
  it shows:    %s
Either the server was set up anew, or somebody stands between it and you and
would read what you send. Nothing was sent. Ask the server's operator for the
key that fenc serve logs; if it is the new one, run: fenc trust %s`,
		e.server, e.err.Want[0], cmp.Or(e.from, "of the invite"), e.err.Got, e.err.Got)
}

func (e *changedKey) Unwrap() error { return send.ErrServerKey }
