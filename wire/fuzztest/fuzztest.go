// Package fuzztest has the targets of go test -fuzz run in process as well: with inputs
// that are made from a target's corpus by chance, millions a second where go test -fuzz,
// which hands each input to another process and looks at what it reaches, has thousands.
// The one finds what makes a corpus, the other goes on from there.
package fuzztest

import (
	"errors"
	"flag"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

var (
	executions = flag.Int64("fuzz.executions", 0, "how often each fuzz target runs with an input made from its corpus; 0: with its corpus alone")
	seed       = flag.Uint64("fuzz.seed", 1, "what -fuzz.executions draws inputs from")
)

// F is a testing.F that counts its corpus.
type F struct {
	*testing.F
	added int64
}

// New returns f for a target that -fuzz.executions is to reach.
func New(f *testing.F) *F { return &F{F: f} }

// Add is testing.F's.
func (f *F) Add(args ...any) {
	f.Helper()
	f.added++
	f.F.Add(args...)
}

// Fuzz is testing.F's. With -fuzz.executions, target is called with each entry of the
// corpus and then its share of times with inputs made from that entry. A failure tells
// the input, and the seed that makes it again.
func (f *F) Fuzz(target any) {
	f.Helper()
	if *executions == 0 {
		f.F.Fuzz(target)
		return
	}
	kept, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Fatal(err)
	}
	entries := f.added + int64(len(kept))
	share := (*executions + entries - 1) / max(entries, 1)
	var made int64
	m := mutator{random: rand.New(rand.NewPCG(*seed, uint64(entries)))}
	call := reflect.ValueOf(target)
	f.F.Fuzz(reflect.MakeFunc(call.Type(), func(in []reflect.Value) []reflect.Value {
		t := in[0].Interface().(*testing.T)
		call.Call(in)
		for _, argument := range in[1:] {
			m.learn(argument)
		}
		input := append([]reflect.Value(nil), in...)
		whole := false
		defer func() { // t.Fatal and a panic come by here
			if !whole {
				t.Errorf("with -fuzz.seed=%d, input %d of this entry: %#v", *seed, made, values(input[1:]))
			}
		}()
		direct := directly(t, target)
		for made = 0; made < share; made++ {
			m.mutateAll(input[1:], in[1:])
			if direct != nil {
				direct(input[1])
			} else {
				call.Call(input)
			}
			if t.Failed() {
				return nil
			}
		}
		whole = true
		return nil
	}).Interface())
	f.Cleanup(func() {
		f.Logf("%d executions, made from %d entries with -fuzz.seed=%d", share*entries, entries, *seed)
	})
}

// directly calls the most frequent kinds of targets without reflection, which takes
// longer than many a parser.
func directly(t *testing.T, target any) func(reflect.Value) {
	switch target := target.(type) {
	case func(*testing.T, []byte):
		return func(v reflect.Value) { target(t, v.Bytes()) }
	case func(*testing.T, string):
		return func(v reflect.Value) { target(t, v.String()) }
	}
	return nil
}

func values(of []reflect.Value) []any {
	all := make([]any, len(of))
	for i, v := range of {
		all[i] = v.Interface()
	}
	return all
}
