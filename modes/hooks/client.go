package hooks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"fenc/model"
)

// RunnerCommand is the hidden command of the binary that is the runner.
const RunnerCommand = "hook-runner"

// ErrEnded: the runner has ended.
var ErrEnded = errors.New("the process that runs hooks has ended")

// Runner is a runner as the server has it.
type Runner struct {
	in   io.WriteCloser
	wait func() error // for its end
	kill func()
	done chan struct{} // closed when no more answers come

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan Answer
}

// Start starts a runner: a process of this binary or, where inProcess is set, a
// goroutine. It comes before the server opens anything, so that nothing is handed
// down.
func Start(c Config, inProcess bool) (*Runner, error) {
	r := &Runner{done: make(chan struct{}), waiting: make(map[uint64]chan Answer)}
	var out io.Reader
	var err error
	if inProcess {
		out = r.startHere()
	} else if out, err = r.startProcess(); err != nil {
		return nil, fmt.Errorf("start the process that runs hooks: %w", err)
	}
	answers := bufio.NewReaderSize(out, maxLine)
	ready := make(chan error, 1)
	go func() {
		var a Answer
		ready <- readLine(answers, &a)
	}()
	err = r.send(c)
	select {
	case readErr := <-ready:
		err = errors.Join(err, readErr)
	case <-time.After(startGrace):
		err = errors.New("it does not answer")
	}
	if err != nil {
		r.kill()
		r.in.Close()
		r.wait()
		return nil, fmt.Errorf("start the process that runs hooks: %w", err)
	}
	go r.listen(answers)
	return r, nil
}

func (r *Runner) startProcess() (io.Reader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, RunnerCommand)
	cmd.Env, cmd.Stderr = environment(), os.Stderr
	ownGroup(cmd) // a terminal's signals are the server's to hear
	cmd.Cancel = nil
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.in, r.wait, r.kill = in, cmd.Wait, func() { cmd.Process.Kill() }
	return out, cmd.Start()
}

func (r *Runner) startHere() io.Reader {
	in, toRunner := io.Pipe()
	fromRunner, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Run(in, out)
		in.CloseWithError(ErrEnded)
		out.Close()
		ended <- err
	}()
	r.in, r.wait, r.kill = toRunner, func() error { return <-ended }, func() {}
	return fromRunner
}

func (r *Runner) send(v any) error {
	line, err := json.Marshal(v)
	if err == nil && len(line) >= maxLine {
		err = fmt.Errorf("%d bytes, over %d", len(line), maxLine)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err = r.in.Write(append(line, '\n'))
	return err
}

// listen hands answers to who waits for them, until the runner ends.
func (r *Runner) listen(answers *bufio.Reader) {
	defer close(r.done)
	for {
		var a Answer
		if err := readLine(answers, &a); err != nil {
			return
		}
		r.mu.Lock()
		waiting := r.waiting[a.Number]
		delete(r.waiting, a.Number)
		r.mu.Unlock()
		if waiting != nil {
			waiting <- a
		}
	}
}

// Done is closed when the runner has ended, which it does by itself only by a
// fault.
func (r *Runner) Done() <-chan struct{} { return r.done }

// Close ends the runner and what it runs.
func (r *Runner) Close() error {
	r.mu.Lock()
	r.in.Close()
	r.mu.Unlock()
	late := time.AfterFunc(startGrace, r.kill)
	defer late.Stop()
	<-r.done
	return r.wait()
}

// do has the runner do something. Where ctx ends first, what it does is killed.
func (r *Runner) do(ctx context.Context, what action, n News) (Answer, error) {
	answer := make(chan Answer, 1)
	r.mu.Lock()
	r.last++
	number := r.last
	r.waiting[number] = answer
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, number)
	}()
	if err := r.send(request{Number: number, Do: what, News: n}); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrEnded, err)
	}
	select {
	case a := <-answer:
		return a, nil
	case <-r.done:
		return Answer{}, ErrEnded
	case <-ctx.Done():
		r.send(request{Number: number, Do: cancel})
		return Answer{}, ctx.Err()
	}
}

// Deliver tells a destination of an event.
func (r *Runner) Deliver(ctx context.Context, destination string, n News) (Answer, error) {
	if destination == Webhook {
		return r.do(ctx, callWebhook, n)
	}
	return r.do(ctx, runHook, n)
}

// Question is what a gate is asked about a sealed upload.
func Question(u model.Upload, client string) News {
	n := News{Kind: "gate", Client: client, Name: u.FileName, Object: u.ID.String(), Size: u.Size, Time: time.Now(), Attempt: 1}
	n.BLAKE3, n.CRC32 = sums(u.Digest, u.Checksum)
	return n
}

// Verdict is a gate's.
type Verdict int

const (
	Unavailable Verdict = iota // it said nothing
	Yes
	No
)

// Gate asks the gate about an object.
func (r *Runner) Gate(ctx context.Context, n News) (Verdict, Answer, error) {
	a, err := r.do(ctx, askGate, n)
	switch {
	case err != nil:
		return Unavailable, a, err
	case a.Outcome == done:
		return Yes, a, nil
	case a.Outcome == denied:
		return No, a, nil
	}
	return Unavailable, a, nil
}
