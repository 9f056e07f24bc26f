package postgrestest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// process is the postmaster.
type process struct {
	command *exec.Cmd
	ended   chan struct{}
}

// run starts postgres. It ends with this process, of which the kernel knows only the
// thread: that one stays.
func run(path, log string, args []string) (*process, error) {
	p := &process{command: exec.Command(path, args...), ended: make(chan struct{})}
	p.command.SysProcAttr = attributes()
	p.command.SysProcAttr.Pdeathsig = syscall.SIGQUIT // at once, with all of its processes
	p.command.SysProcAttr.Setpgid = true              // a terminal's interrupt is for the tests, who end it
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.command.Stdout, p.command.Stderr = out, out
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: unlocked, the thread might end before the process
		defer close(p.ended)
		err := p.command.Start()
		started <- err
		if err == nil {
			p.command.Wait()
		}
	}()
	return p, <-started
}

// freeze stops the postmaster and its processes, or has them go on.
func (p *process) freeze(yes bool) error {
	signal := syscall.SIGCONT
	if yes {
		signal = syscall.SIGSTOP
	}
	// The postmaster first: one that stands still starts nobody who is not among those
	// that the kernel lists.
	if err := syscall.Kill(p.command.Process.Pid, signal); err != nil {
		if err == syscall.ESRCH {
			return nil // it has ended
		}
		return err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.command.Process.Pid))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(string(children)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, signal); err != nil && err != syscall.ESRCH {
			return err
		}
	}
	return nil
}

// owner is as whom postgres runs, which refuses root: the user that Debian has for
// it, or nobody.
func owner() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
}

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Credential: owner()} }

// give makes a folder that of postgres.
func give(dir string) error {
	if o := owner(); o != nil {
		return os.Chown(dir, int(o.Uid), int(o.Gid))
	}
	return nil
}
