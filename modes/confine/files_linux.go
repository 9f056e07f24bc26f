package confine

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

const (
	reading = landlock.AccessFSSet(ll.AccessFSReadFile)
	writing = landlock.AccessFSSet(ll.AccessFSReadFile | ll.AccessFSReadDir | ll.AccessFSWriteFile | ll.AccessFSMakeReg |
		ll.AccessFSMakeDir | ll.AccessFSMakeSym | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir | ll.AccessFSRefer)
)

// configuration returns what can be denied by the version of Landlock that the
// kernel has. Best-effort mode would not do: where one right of a rule is not to be
// had, it denies nothing and returns no error. Left out is what version 6 and later
// ones have more: a signal from one thread to another, which Go's runtime lives by,
// counted as one to a stranger in the first kernels of version 6.
func configuration(kernel int) (c landlock.Config, abi int, err error) {
	switch {
	case kernel >= 5:
		return landlock.V5, 5, nil
	case kernel == 4:
		return landlock.V4, 4, nil
	case kernel == 3:
		return landlock.V3, 3, nil
	case kernel == 2:
		return landlock.V2, 2, nil
	case kernel == 1:
		return c, 0, fmt.Errorf("%w: the kernel has Landlock ABI 1, under which no file can be linked into another folder: Linux 5.19 has what it takes", ErrUnconfined)
	}
	return c, 0, fmt.Errorf("%w: the kernel has no Landlock, or it is switched off (lsm= on its command line)", ErrUnconfined)
}

func files(a Allowed) (Held, error) {
	kernel, err := ll.LandlockGetABIVersion()
	if err != nil {
		kernel = 0
	}
	c, abi, err := configuration(kernel)
	if err != nil {
		return Held{}, err
	}
	write := writing
	if abi >= 3 {
		write |= ll.AccessFSTruncate
	}
	_, _ = time.Now().Zone() // reads /etc/localtime, once in a process
	rules := []landlock.Rule{
		landlock.PathAccess(write, a.Write...),
		landlock.PathAccess(reading, a.Read...),
		landlock.PathAccess(reading, "/dev/urandom").IgnoreIfMissing(), // where SQLite takes the names of its temporary files from
	}
	if len(a.Connect) > 0 {
		rules = append(rules, landlock.PathAccess(reading, namesFiles()...).IgnoreIfMissing())
	}
	for _, port := range a.Connect {
		if abi >= 4 {
			rules = append(rules, landlock.ConnectTCP(port))
		}
	}
	// All of c: what no rule names is denied, on the network too.
	if err := c.Restrict(rules...); err != nil {
		return Held{}, fmt.Errorf("%w by Landlock ABI %d: %w", ErrUnconfined, abi, err)
	}
	return Held{ABI: abi, Kernel: kernel, Truncating: abi >= 3, Connecting: abi >= 4}, nil
}

// namesFiles are what addresses of names are looked up by, for as long as the process
// lives: what a daemon writes is put in place of itself, so its folder must stay
// readable, and not that file alone.
func namesFiles() []string {
	const resolver = "/etc/resolv.conf"
	all := []string{"/etc/hosts", "/etc/nsswitch.conf", "/etc/services", resolver}
	if file, err := filepath.EvalSymlinks(resolver); err == nil && strings.HasPrefix(file, "/run/") && strings.Count(file, "/") > 2 {
		all = append(all, filepath.Dir(file))
	}
	return all
}
