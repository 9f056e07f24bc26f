package fuzztest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
)

func inputs(seed uint64, from []byte, n int) [][]byte {
	m := mutator{random: rand.New(rand.NewPCG(seed, 0))}
	m.learn(reflect.ValueOf(from))
	var made [][]byte
	for range n {
		made = append(made, m.mutate(reflect.ValueOf(from)).Bytes())
	}
	return made
}

func TestInputsAreMadeAgainByTheirSeed(t *testing.T) {
	t.Parallel()
	from := []byte("server = \"h:1\"\n")
	first, again := inputs(1, from, 1000), inputs(1, from, 1000)
	different := make(map[string]bool)
	for i := range first {
		if !bytes.Equal(first[i], again[i]) {
			t.Fatalf("input %d: got %q and %q", i, first[i], again[i])
		}
		different[string(first[i])] = true
	}
	if len(different) < 800 {
		t.Errorf("%d different inputs of 1000", len(different))
	}
	if string(from) != "server = \"h:1\"\n" {
		t.Errorf("the entry itself became %q", from)
	}
}

// Inputs of any length are changed, and do not grow for ever.
func TestInputsStayShort(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 7, longest - 1, longest, 3 * longest} {
		for i, made := range inputs(2, make([]byte, size), 2000) {
			if len(made) > max(size, longest)+8*max(size, longest) {
				t.Fatalf("input %d of %d bytes has %d", i, size, len(made))
			}
		}
	}
}

func TestEveryKindOfArgumentIsChanged(t *testing.T) {
	t.Parallel()
	m := mutator{random: rand.New(rand.NewPCG(3, 0))}
	for _, v := range []any{"text", []byte("bytes"), true, uint8(1), uint16(1), uint32(1), uint64(1), int8(1), int64(-1), rune('a'), 1.5, float32(1.5)} {
		different := make(map[string]bool)
		for range 100 {
			made := m.mutate(reflect.ValueOf(v))
			if made.Type() != reflect.TypeOf(v) {
				t.Fatalf("%T became %s", v, made.Type())
			}
			different[fmt.Sprint(made)] = true
		}
		if len(different) < 2 {
			t.Errorf("%T stays as it is", v)
		}
	}
}

// Of several arguments one changes at a time, mostly, and each of them does.
func TestSeveralArgumentsChangeByThemselves(t *testing.T) {
	t.Parallel()
	m := mutator{random: rand.New(rand.NewPCG(4, 0))}
	from := []reflect.Value{reflect.ValueOf("one"), reflect.ValueOf([]byte("two")), reflect.ValueOf(uint8(3))}
	made := make([]reflect.Value, len(from))
	changed, single := make([]int, len(from)), 0
	for range 1000 {
		m.mutateAll(made, from)
		all := 0
		for i := range from {
			if !reflect.DeepEqual(made[i].Interface(), from[i].Interface()) {
				changed[i]++
				all++
			}
		}
		if all == 1 {
			single++
		}
	}
	for i, n := range changed {
		if n < 50 {
			t.Errorf("argument %d changed %d times of 1000", i, n)
		}
	}
	if single < 500 {
		t.Errorf("%d times of 1000 one argument alone changed", single)
	}
}
