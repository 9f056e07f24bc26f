package model

import (
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"
)

// A reserved id that may be being removed already is not taken any more.
func TestOldReservationIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, fresh func(t *testing.T) string) {
		clock := newClock()
		c := open(t, fresh(t), Options{Now: clock.Now})
		client := register(t, c, "grace")
		for _, test := range []struct {
			after time.Duration
			want  error
		}{{ReservedFor - time.Minute, nil}, {ReservedFor, ErrNoUpload}} {
			ids, err := c.Reserve(2)
			if err != nil {
				t.Fatal(err)
			}
			clock.advance(test.after)
			group := []SmallFile{{Client: client.ID, Name: test.after.String(), Size: 1, Digest: Hash{1}, Object: NewID()}}
			if _, err := c.CommitSmall(group, &ids[0], Bounds{}); !errors.Is(err, test.want) {
				t.Errorf("%s after it was reserved: got %v, want %v", test.after, err, test.want)
			}
			f, ok, err := c.File(client.ID, time.Duration(ReservedFor-time.Minute).String())
			if err != nil || !ok {
				t.Fatalf("got %v, %v", ok, err)
			}
			if err := c.Repack([]File{f}, ids[1], []int64{0}); !errors.Is(err, test.want) {
				t.Errorf("repack %s after it was reserved: got %v, want %v", test.after, err, test.want)
			}
		}
	})
}

func TestEmptyPacksGoHoweverManyThereAre(t *testing.T) {
	onEach(t, func(t *testing.T, fresh func(t *testing.T) string) {
		c := open(t, fresh(t), Options{})
		packs := make([]Pack, 1100)
		for i := range packs {
			packs[i] = Pack{ID: NewID(), MadeAt: Time{c.now()}}
		}
		if err := c.write(nobody, func(tx *gorm.DB) error { return tx.CreateInBatches(packs, 500).Error }); err != nil {
			t.Fatal(err)
		}
		if err := c.DropEmptyPacks(); err != nil {
			t.Fatal(err)
		}
		garbage, err := c.GarbageBefore(c.now().Add(time.Hour), 5000)
		if err != nil || len(garbage) != len(packs) {
			t.Errorf("got %d objects of garbage, %v, want all %d", len(garbage), err, len(packs))
		}
	})
}
