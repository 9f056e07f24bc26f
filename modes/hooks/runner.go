package hooks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"

	"fenc/model/storage"
	"fenc/model/storage/s3"
)

// Run is the runner: it does what comes on in, as the configuration there allows,
// and answers on out, until in ends. What is under way then is killed.
func Run(in io.Reader, out io.Writer) error {
	lines := bufio.NewReaderSize(in, maxLine)
	r := &runner{out: out, underWay: make(map[uint64]context.CancelCauseFunc)}
	if err := readLine(lines, &r.config); err != nil {
		return fmt.Errorf("it is started by fenc serve alone: %w", err)
	}
	r.caller = newCaller(r.config)
	if err := r.answer(Answer{Outcome: done}); err != nil { // ready
		return err
	}
	ctx, stop := context.WithCancelCause(context.Background())
	defer r.work.Wait()
	defer stop(errStopped)
	for {
		var q request
		err := readLine(lines, &q)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r.take(ctx, q)
	}
}

var (
	errStopped  = errors.New("stopped, since the server ends")
	errCanceled = errors.New("given up")
)

// runner is the state of Run.
type runner struct {
	config Config
	caller *caller
	work   sync.WaitGroup

	outMu sync.Mutex
	out   io.Writer

	mu       sync.Mutex
	underWay map[uint64]context.CancelCauseFunc
}

// readLine reads a line of JSON. The end before its first byte is io.EOF.
func readLine(r *bufio.Reader, v any) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, io.EOF) && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return json.Unmarshal(line, v)
}

func (r *runner) answer(a Answer) error {
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	r.outMu.Lock()
	defer r.outMu.Unlock()
	_, err = r.out.Write(append(line, '\n'))
	return err
}

// take begins what a request wants.
func (r *runner) take(ctx context.Context, q request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.Do == cancel {
		if end := r.underWay[q.Number]; end != nil {
			end(errCanceled)
		}
		return
	}
	if len(r.underWay) >= maxAtOnce || r.underWay[q.Number] != nil {
		r.work.Go(func() { r.answer(Answer{Number: q.Number, Outcome: failed, Text: "too many at once"}) })
		return
	}
	timeout := r.config.HookTimeout
	if q.Do == askGate {
		timeout = r.config.GateTimeout
	}
	ctx, end := context.WithCancelCause(ctx)
	ctx, late := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no end within %s", timeout))
	r.underWay[q.Number] = end
	r.work.Go(func() {
		defer late()
		a := r.do(ctx, q)
		a.Number = q.Number
		r.mu.Lock()
		delete(r.underWay, q.Number)
		r.mu.Unlock()
		end(nil)
		r.answer(a) // if the server is gone, so is who wanted to know
	})
}

// do does what a request wants, as far as it is configured.
func (r *runner) do(ctx context.Context, q request) Answer {
	if err := checkNews(q.News); err != nil {
		return Answer{Outcome: failed, Text: err.Error()}
	}
	switch {
	case q.Do == runHook && len(r.config.Hook) > 0:
		output, err := runCommand(ctx, r.config.Hook, q.News, r.config.Storage, nil)
		if err != nil {
			return Answer{Outcome: failed, Text: fmt.Sprintf("hook_command: %v", err), Output: output}
		}
		return Answer{Outcome: done, Output: output}
	case q.Do == callWebhook && r.config.URL != "":
		a := r.caller.call(ctx, q.News)
		if ctx.Err() != nil && a.Outcome == failed {
			a.Text = "webhook_url: " + context.Cause(ctx).Error()
		}
		return a
	case q.Do == askGate && len(r.config.Gate) > 0:
		return r.gate(ctx, q.News)
	}
	return Answer{Outcome: failed, Text: "not configured"}
}

// gateNo is the exit status by which a gate refuses content; any other than that
// and 0 is a failure of the gate's own.
const gateNo = 1

// gate has the gate look at an object, which it gets as its standard input.
func (r *runner) gate(ctx context.Context, n News) Answer {
	content, err := r.open(n.Object)
	if err != nil {
		return Answer{Outcome: failed, Text: err.Error()}
	}
	defer content.Close()
	output, err := runCommand(ctx, r.config.Gate, n, r.config.Storage, content)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return Answer{Outcome: done, Output: output}
	case errors.As(err, &exit) && exit.ExitCode() == gateNo && ctx.Err() == nil:
		return Answer{Outcome: denied, Text: "exit status 1", Output: output}
	}
	return Answer{Outcome: failed, Text: fmt.Sprintf("gate_command: %v", err), Output: output}
}

// open opens an object's content: a file, which a command gets as it is, or what
// comes from a store.
func (r *runner) open(key string) (io.ReadCloser, error) {
	if r.config.Buckets == nil {
		return storage.OpenContent(r.config.Storage, key)
	}
	if !storage.IsKey(key) {
		return nil, fmt.Errorf("%q is no object's key", key)
	}
	store, err := s3.New(*r.config.Buckets)
	if err != nil {
		return nil, err
	}
	object, err := store.Open(key)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &fetched{io.NewSectionReader(object, 0, object.Size()), object, store}, nil
}

// fetched is the content of an object in a store that was opened for it alone.
type fetched struct {
	io.Reader
	object storage.Reader
	store  storage.Store
}

func (f *fetched) Close() error { return errors.Join(f.object.Close(), f.store.Close()) }
