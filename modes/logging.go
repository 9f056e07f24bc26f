package modes

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
)

// logging is a log, whose level and form may change while it is written.
type logging struct {
	*slog.Logger
	level slog.LevelVar
	json  atomic.Bool
}

func newLog(w io.Writer, level, form string) *logging {
	l := new(logging)
	o := &slog.HandlerOptions{Level: &l.level}
	l.Logger = slog.New(&formed{&l.json, slog.NewTextHandler(w, o), slog.NewJSONHandler(printableJSON{w}, o)})
	l.configure(level, form)
	return l
}

// configure has lines be of at least this level and in this form, as log_level and
// log_format have them.
func (l *logging) configure(atLeast, form string) {
	var level slog.Level
	level.UnmarshalText([]byte(atLeast)) // validated
	l.level.Set(level)
	l.json.Store(form == "json")
}

// formed writes each line in the form that is chosen at that time. The two handlers
// write each line with one Write.
type formed struct {
	asJSON     *atomic.Bool
	text, json slog.Handler
}

func (f *formed) Enabled(ctx context.Context, level slog.Level) bool {
	return f.text.Enabled(ctx, level)
}

func (f *formed) Handle(ctx context.Context, r slog.Record) error {
	if f.asJSON.Load() {
		return f.json.Handle(ctx, r)
	}
	return f.text.Handle(ctx, r)
}

func (f *formed) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &formed{f.asJSON, f.text.WithAttrs(attrs), f.json.WithAttrs(attrs)}
}

func (f *formed) WithGroup(name string) slog.Handler {
	return &formed{f.asJSON, f.text.WithGroup(name), f.json.WithGroup(name)}
}
