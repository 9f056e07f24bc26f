package check

import (
	"testing"

	"fenc/model"
)

// A file that was moved to another pack since its row was read is not missing.
func TestMovedFileIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	first, second := model.NewID(), model.NewID()
	object := model.NewID()
	in := func(pack *model.ID) model.File { return model.File{Object: object, Pack: pack} }
	for _, test := range []struct {
		a, b *model.ID
		want bool
	}{{nil, nil, true}, {&first, &first, true}, {&first, &second, false}, {&first, nil, false}, {nil, &first, false}} {
		copied := test.b
		if copied != nil {
			id := *copied
			copied = &id
		}
		if got := samePlace(in(test.a), in(copied)); got != test.want {
			t.Errorf("%v and %v: got %t, want %t", test.a, test.b, got, test.want)
		}
	}
}
