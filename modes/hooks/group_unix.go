//go:build unix

package hooks

import (
	"os/exec"
	"syscall"
)

// ownGroup has the command begin a process group, so that all that it starts can
// be killed with it, and no signal of the terminal's reaches it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd) }
}

func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
