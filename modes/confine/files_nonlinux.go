//go:build !linux

package confine

import "fmt"

func files(Allowed) (Held, error) {
	return Held{}, fmt.Errorf("%w: Landlock is Linux's alone", ErrUnconfined)
}
