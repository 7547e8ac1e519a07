package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PeakMemory is the most resident memory that the process has had since it started, in bytes. It is 0 once the process
// has ended, and on anything but Linux.
func (p *Process) PeakMemory() int64 {
	p.mu.Lock() // until it is reaped its number is nobody else's
	defer p.mu.Unlock()
	if p.gone {
		return 0
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kB, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				return 0
			}
			return kB << 10
		}
	}
	return 0 // a zombie has none
}
