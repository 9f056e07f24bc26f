package modes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"fenc/config"
	"fenc/model"
)

// openCatalogue opens the catalogue of a server, with what systemd has for it.
func openCatalogue(settings config.Server, o model.Options) (*model.Catalogue, error) {
	password, err := config.System().DatabasePassword()
	if err != nil {
		return nil, err
	}
	o.Password = password.Reveal()
	return model.Open(settings.Database, o)
}

// explainPostgres adds to an error of opening a catalogue in PostgreSQL what to do
// about it.
func explainPostgres(err error) error {
	if errors.Is(err, model.ErrNoCatalogue) {
		return fmt.Errorf("%w: fenc migrate, or the first start of fenc serve, makes one there", err)
	}
	if errors.Is(err, model.ErrUnavailable) {
		return fmt.Errorf("%w: is it up, and may this user connect? database in server.toml, or FENC_DATABASE, says where it is, PGPASSWORD or ~/.pgpass has the password", err)
	}
	return err
}

// warnOfDatabase says what speaks against trusting the database with what is called
// verified.
func warnOfDatabase(ctx context.Context, catalogue *model.Catalogue, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	doubts, err := catalogue.Doubts(ctx)
	if err != nil {
		log.Warn("the database does not say how far it can be trusted", "reason", err)
	}
	for _, doubt := range doubts {
		log.Warn("database: " + doubt)
	}
}

// databasePorts are the ports at which a database beyond this process is reached, and
// that of names that need more than UDP.
func databasePorts(settings config.Server) []uint16 {
	const names, postgres = 53, 5432
	if !settings.InPostgres() {
		return nil
	}
	ports := []uint16{names}
	u, err := url.Parse(settings.Database)
	if err != nil {
		return append(ports, postgres)
	}
	texts := strings.Split(u.Query().Get("port"), ",")
	for host := range strings.SplitSeq(u.Host, ",") {
		texts = append(texts, host[strings.LastIndexByte(host, ':')+1:])
	}
	for _, text := range texts {
		if port, err := strconv.ParseUint(text, 10, 16); err == nil {
			ports = append(ports, uint16(port))
		}
	}
	if len(ports) == 1 {
		ports = append(ports, postgres)
	}
	return ports
}
