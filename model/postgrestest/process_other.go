//go:build !linux

package postgrestest

import (
	"errors"
	"os/exec"
	"syscall"
)

// process is the postmaster.
type process struct {
	command *exec.Cmd
	ended   chan struct{}
}

// run does nothing: only Linux can promise that the processes end with the tests.
func run(path, log string, args []string) (*process, error) { return nil, errNone }

func (p *process) freeze(bool) error { return errors.ErrUnsupported }

func attributes() *syscall.SysProcAttr { return nil }

func give(string) error { return nil }
