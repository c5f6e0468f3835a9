// Package sdnotify tells systemd how the service is doing (sd_notify(3)). Where
// systemd did not start the process, every call does nothing.
package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The states of sd_notify(3).
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Watchdog = "WATCHDOG=1"
)

// Notifier speaks to the socket that systemd gave the service.
type Notifier struct {
	socket string // "" for none
}

// New reads NOTIFY_SOCKET. The variable is removed, so that child processes do
// not speak for us.
func New() *Notifier {
	socket := os.Getenv("NOTIFY_SOCKET")
	os.Unsetenv("NOTIFY_SOCKET")
	return &Notifier{socket: socket}
}

// Send sends states, one per line.
func (n *Notifier) Send(states ...string) error {
	if n.socket == "" {
		return nil
	}
	// The net package turns a leading "@" into the abstract socket it means.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer conn.Close()
	var message string
	for _, s := range states {
		message += s + "\n"
	}
	if _, err := conn.Write([]byte(message)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Reloading is the state to send when a reload begins; Ready ends it. The time
// is what Type=notify-reload compares with its own.
func Reloading() []string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return []string{"RELOADING=1"}
	}
	return []string{"RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", ts.Nano()/1000)}
}

// ExtendTimeout asks for more time to start or stop than the unit allows.
func ExtendTimeout(d time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds())
}

// Status is the line that "systemctl status" shows.
func Status(line string) string { return "STATUS=" + line }

// WatchdogInterval is how often to send Watchdog: half of what the unit's
// WatchdogSec allows. 0: systemd does not watch this process.
func WatchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}
