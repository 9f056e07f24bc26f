//go:build !unix

package hooks

import "os/exec"

// ownGroup: without process groups, what a command has started outlives it.
func ownGroup(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) error { return cmd.Process.Kill() }
