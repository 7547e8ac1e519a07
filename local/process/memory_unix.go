//go:build unix && !linux

package process

// PeakMemory is the most resident memory that the process has had since it started, in bytes. It is 0 once the process
// has ended, and on anything but Linux.
func (p *Process) PeakMemory() int64 { return 0 }
