package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Where inotify's watches are used up, the log says so once, with the remedy, and the
// folders beyond are looked through. A user namespace has a limit of its own.
func TestWatchBeyondTheLimitOfWatches(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	outbox := filepath.Join(dir, "outbox")
	const folders = 8
	for i := range folders {
		put(t, filepath.Join(outbox, fmt.Sprint(i), "first"), "1")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("sh", "-c", `echo 3 >/proc/sys/user/max_inotify_watches || exit 99; exec "$@"`, "sh",
		path, "watch", "--config", settings, "--queue", queueOf(settings), "--settle", "0s", "--rescan", "1s", outbox)
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	probe := exec.Command("true")
	probe.SysProcAttr = command.SysProcAttr
	if err := probe.Run(); err != nil {
		t.Skipf("no user namespaces here: %v", err)
	}
	c := startCommand(t, dir, nil, command)
	c.log.await(t, `level=WARN msg="no more folders can be watched: those beyond are looked through instead" watched=3 every=1m0s \S+ error="[^"]+" remedy="raise fs.inotify.max_user_watches|cannot create|not permitted`, c.ended)
	select {
	case <-c.ended:
		t.Skipf("no limit of watches can be set here:\n%s", c.log)
	default:
	}
	for i := range folders {
		put(t, filepath.Join(outbox, fmt.Sprint(i), "later"), "22")
	}
	for i := range folders {
		c.log.await(t, fmt.Sprintf(`msg=verified \S+ as=outbox/%d/later bytes=2 `, i), c.ended)
	}
}
