package kernelpath

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
)

const iperfPort = 5201 // iperf3's own

// tcp sends one stream by iperf3 from the VM to the server, or the other way, and
// returns the bit/s of payload that arrived.
func (w *world) tcp(ctx context.Context, o *Options, target netip.Addr, reverse bool) (rate float64, err error) {
	// A server for each transfer: between two, it closes its listener and resets
	// who has connected by then.
	server, err := bench.StartProcess(w.topo.Server, w.dir, exec.Command("iperf3", "-s", "-1"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if err := server.WaitListening(w.topo.Server, iperfPort); err != nil {
		return 0, err
	}
	args := []string{"-c", target.String(), "-J", "--connect-timeout", "5000"}
	if o.Bytes > 0 {
		args = append(args, "-n", strconv.FormatInt(o.Bytes, 10))
	} else {
		args = append(args, "-t", strconv.Itoa(o.Seconds))
	}
	if reverse {
		args = append(args, "-R")
	}
	var out bytes.Buffer
	cmd := exec.Command("iperf3", args...)
	cmd.Stdout = &out
	if err := w.vm.Start(cmd); err != nil {
		return 0, fmt.Errorf("start iperf3: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-ended
		return 0, ctx.Err()
	case <-time.After(time.Duration(o.Seconds)*time.Second + 30*time.Second):
		_ = cmd.Process.Kill()
		<-ended
		return 0, errors.New("iperf3 did not end and was killed")
	}
	var said error
	rate, said = parseIperf(out.Bytes())
	return rate, errors.Join(err, said)
}

// parseIperf reads the rate from iperf3's JSON document, which also is where it
// puts its errors.
func parseIperf(out []byte) (float64, error) {
	var doc struct {
		Error string
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return 0, fmt.Errorf("read what iperf3 says: %w", err)
	}
	if doc.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", doc.Error)
	}
	if doc.End.Received.Rate <= 0 {
		return 0, errors.New("iperf3: nothing arrived")
	}
	return doc.End.Received.Rate, nil
}
