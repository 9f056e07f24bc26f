package modes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"fenc/config"
	"fenc/model"
	"fenc/model/storage"
	"fenc/model/storage/s3"
	"fenc/modes/check"
)

// checkFor is how long a store may take for its check at the start.
const checkFor = 2 * time.Minute

// tokens notes in the catalogue, once there is one, what buckets call an upload.
type tokens struct{ catalogue *model.Catalogue }

func (t *tokens) keep(key, token string) (kept string, err error) {
	id, err := model.ParseID(key)
	if err != nil {
		return "", err
	}
	return t.catalogue.SetToken(id, token)
}

// openBuckets opens the store of a server's buckets, if it does what is counted on.
func openBuckets(ctx context.Context, settings config.Server, noted *tokens, log *slog.Logger) (storage.Store, error) {
	if settings.S3.Plain() {
		log.Warn("the S3 store is reached without encryption: whoever sits on the line reads what clients have sent", "endpoint", settings.S3.Endpoint)
	}
	store, err := bucketsOf(settings, noted)
	if err != nil {
		return nil, &usageError{err}
	}
	if err := store.Reach(); err != nil {
		log.Warn("the S3 store cannot be used yet: what may pass is tried again for a minute or two", "error", err)
	}
	ctx, cancel := context.WithTimeout(ctx, checkFor)
	defer cancel()
	if err := store.Check(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: endpoint, credentials and buckets stand in storage and [s3] of server.toml", err), store.Close())
	}
	log.Info("S3 store checked", "storage", store.String(), "endpoint", cmp.Or(settings.S3.Endpoint, "Amazon's"), "verify", settings.S3.Verify)
	return store, nil
}

// bucketsOf is the store of a server's buckets, of which nothing was asked yet.
func bucketsOf(settings config.Server, noted *tokens) (*s3.Store, error) {
	o, err := bucketOptions(settings)
	if err != nil {
		return nil, err
	}
	if noted != nil {
		o.Tokens = noted.keep
	}
	return s3.New(*o)
}

// bucketOptions are how the store of a server's buckets is reached, credentials among
// them.
func bucketOptions(settings config.Server) (*s3.Options, error) {
	credentials, err := config.System().S3Credentials(settings.S3)
	if err != nil {
		return nil, err
	}
	o := &s3.Options{
		Endpoint: settings.S3.Endpoint, Region: settings.S3.Region, VirtualHosts: !settings.S3.PathStyle || settings.S3.Endpoint == "",
		AccessKey: credentials.AccessKey, SecretKey: credentials.SecretKey.Reveal(), SessionToken: credentials.Token.Reveal(),
		PartBuffers: settings.S3.PartBuffers, SpoolDir: spoolDir(settings), VerifyRead: settings.S3.Verify == "read",
	}
	for _, b := range settings.Buckets() {
		o.Buckets = append(o.Buckets, s3.Bucket(b))
	}
	return o, nil
}

// spoolDir is where parts are that are too large for memory: beside the database,
// where a confined server may write.
func spoolDir(settings config.Server) string {
	if dir := resolved(settings.Home()); isFolder(dir) {
		return dir
	}
	return os.TempDir()
}

var defaultPorts = map[string]uint16{"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

// bucketPorts are the ports at which the store of a server's buckets is reached: its
// own or that of a proxy, and that of names that need more than UDP.
func bucketPorts(settings config.Server) []uint16 {
	const names = 53
	if !settings.InBuckets() {
		return nil
	}
	request, err := http.NewRequest(http.MethodGet, cmp.Or(settings.S3.Endpoint, "https://s3.amazonaws.com"), nil)
	if err != nil {
		return nil
	}
	at := request.URL
	if proxy, err := http.ProxyFromEnvironment(request); err == nil && proxy != nil { // which the client asks, too
		at = proxy
	}
	if port, err := strconv.ParseUint(at.Port(), 10, 16); err == nil {
		return []uint16{uint16(port), names}
	}
	return []uint16{defaultPorts[at.Scheme], names}
}

// openBeside opens the storage of a server for reading, whether it runs or not.
func openBeside(settings config.Server) (check.Store, error) {
	if !settings.InBuckets() {
		store, err := storage.OpenBeside(settings.Storage)
		if err != nil { // and not a Store that holds a nil
			return nil, err
		}
		return store, nil
	}
	store, err := bucketsOf(settings, nil)
	if err != nil {
		return nil, err
	}
	return store, nil
}
