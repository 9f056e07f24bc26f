// Package hooks tells others of files: it runs the operator's commands and calls
// his webhook.
//
// The server is confined to its own files, runs no program and connects to nobody.
// So a process of its own, the runner, is started before that, with what it may
// run and where it may connect, and takes nothing but events afterwards: whoever
// has taken the server over can have the runner do what the configuration says, and
// nothing else. The server and the runner end together.
//
//	server --requests--> runner --> hook_command, gate_command, webhook_url
//	       <--answers---
//
// Requests and answers are JSON, one a line.
package hooks

import (
	"errors"
	"time"

	"fenc/model/storage/s3"
)

// Config is what a runner may do. It comes before the first request and never
// changes.
type Config struct {
	Hook        []string      // hook_command; nil: none
	Gate        []string      // gate_command; nil: none
	URL         string        // webhook_url; empty: none
	Secret      []byte        // that the webhook's calls are signed with
	HookTimeout time.Duration // of a hook, and of a call of the webhook
	GateTimeout time.Duration
	Storage     string      // absolute path of the storage; empty where it is in buckets
	Buckets     *s3.Options // of the store that the gate's content is in; nil: in Storage
	Software    string      // that calls of the webhook name
}

// Destinations of events, as the catalogue has them.
const (
	Command = "command"
	Webhook = "webhook"
)

// Destinations lists who is told of files.
func (c Config) Destinations() (list []string) {
	if len(c.Hook) > 0 {
		list = append(list, Command)
	}
	if c.URL != "" {
		list = append(list, Webhook)
	}
	return list
}

// Needed reports whether there is anything for a runner to do.
func (c Config) Needed() bool { return len(c.Destinations()) > 0 || len(c.Gate) > 0 }

// action is what a request wants done.
type action string

const (
	runHook     action = "hook"
	callWebhook action = "webhook"
	askGate     action = "gate"
	cancel      action = "cancel" // the request of this number
)

// News is what a hook, the webhook or the gate is told.
type News struct {
	ID      string    `json:"id"` // of the event; empty for the gate
	Kind    string    `json:"kind"`
	Client  string    `json:"client"`
	Name    string    `json:"name"`             // as it was sent
	Path    string    `json:"path"`             // below the storage; empty for the gate
	Object  string    `json:"object,omitempty"` // key of the content, for the gate
	Size    int64     `json:"size"`             // bytes
	BLAKE3  string    `json:"blake3,omitempty"`
	CRC32   string    `json:"crc32,omitempty"`
	Version int64     `json:"version"`
	Time    time.Time `json:"time"`
	Attempt int       `json:"attempt"` // 1, and one more with each failure
}

// request is a line to the runner.
type request struct {
	Number uint64 `json:"number"`
	Do     action `json:"do"`
	News   News   `json:"news,omitzero"`
}

// outcome is what came of a request.
type outcome string

const (
	done   outcome = "done"   // taken; or the gate's yes
	denied outcome = "denied" // the gate's no
	failed outcome = "failed" // try again later
	gone   outcome = "gone"   // nobody wants any more of this
)

// Answer is a line from the runner.
type Answer struct {
	Number     uint64        `json:"number"`
	Outcome    outcome       `json:"outcome"`
	Text       string        `json:"text,omitempty"`        // why, where it is not done
	Output     string        `json:"output,omitempty"`      // of a command, its beginning
	RetryAfter time.Duration `json:"retry_after,omitempty"` // that the webhook asks for
}

// Err says why the request was not done; nil where it was.
func (a Answer) Err() error {
	if a.Outcome == done {
		return nil
	}
	return errors.New(a.Text)
}

const (
	maxLine    = 64 << 10 // bytes of a request or an answer
	maxAtOnce  = 256      // requests under way in a runner
	maxOutput  = 4 << 10  // bytes that are kept of what a command prints
	pipeGrace  = 2 * time.Second
	startGrace = 10 * time.Second
)
