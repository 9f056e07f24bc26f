package model

import (
	"fmt"
	"testing"
	"time"
)

func TestHeardLast(t *testing.T) { onEach(t, testHeardLast) }

func testHeardLast(t *testing.T, fresh func(*testing.T) string) {
	clock := newClock()
	c := open(t, fresh(t), Options{Now: clock.Now})
	for i := range 10 {
		client := register(t, c, fmt.Sprintf("client-%d", i))
		clock.advance(time.Minute)
		if i == 3 || i == 7 {
			if _, err := keep(t, c, client, "a", client.Folder+"/a", ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	first, _, _ := c.ClientNamed("client-3")
	c.Touch(first.ID) // not in the database yet
	newest, all, _ := c.HeardLast(3)
	if all != 10 || len(newest) != 3 {
		t.Fatalf("got %d of %d, want 3 of 10", len(newest), all)
	}
	for i, want := range []string{"client-3", "client-9", "client-8"} {
		if got := newest[i].Client.Name; got != want {
			t.Errorf("place %d: got %s, want %s", i, got, want)
		}
	}
	if newest[0].Files != 1 || newest[0].Bytes != 7 || newest[1].Files != 0 {
		t.Errorf("got %d files of %d bytes and %d files, want 1 of 7 and 0", newest[0].Files, newest[0].Bytes, newest[1].Files)
	}
	if everybody, _, _ := c.HeardLast(100); len(everybody) != 10 {
		t.Errorf("got %d of 10", len(everybody))
	}
}
