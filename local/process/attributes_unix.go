//go:build unix && !linux

package process

import "syscall"

// attributes has no parent-death signal to set here: after a kill -9 of the parent a child may stay behind.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
