//go:build nic

package nic

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// TestRun is `isthmus run` on two cards; the third is both a host that has only IPv6
// and one that has only IPv4.
//
//	peer eth2 ── bridge ── eth0 (IPv6)  isthmus  eth1 (IPv4) ── bridge ── eth2 peer
func TestRun(t *testing.T) {
	peer := newPeer(t)
	for _, zc := range []string{"auto", "require", "off"} {
		t.Run("zero_copy="+zc, func(t *testing.T) {
			d := run(t, zc)
			want := "0"
			switch driver(t, "eth0") {
			case "igb":
				if zc != "off" {
					want = "1"
				}
			case "virtio_net":
				if zc == "require" {
					t.Fatal("virtio_net did what it can't: see refused")
				}
			}
			for _, line := range []string{
				`isthmus_router_port_attached{mode="driver",port="eth0"} 1`,
				`isthmus_router_port_attached{mode="driver",port="eth1"} 1`,
				`isthmus_router_socket_zero_copy{port="eth0",worker="3"} ` + want,
				`isthmus_router_socket_zero_copy{port="eth1",worker="0"} ` + want,
			} {
				// A card that takes its link down to attach a program is opened anew.
				eventually(t, line, func() bool { return strings.Contains(d.metrics(t), line+"\n") })
			}
			eventually(t, "the first connection", func() bool { return exchange(peer, 1000) == nil })
			all(t, peer, 32)
			metrics := d.metrics(t)
			for worker := range queues {
				if zero := fmt.Sprintf(`isthmus_router_port_receive_packets_total{port="eth0",worker="%d"} 0`, worker); strings.Contains(metrics, zero+"\n") {
					t.Errorf("%s: a queue carried nothing", zero)
				}
			}
			for range 2 {
				must(t, up("eth1", false))
				time.Sleep(200 * time.Millisecond)
				must(t, up("eth1", true))
				eventually(t, "a connection after the link was down", func() bool { return exchange(peer, 1000) == nil })
				all(t, peer, 8)
			}
			d.stop(t)
		})
	}
}

// newPeer moves eth2 into a namespace, and gives all cards their addresses.
func newPeer(t *testing.T) *lab.Host {
	t.Helper()
	peer, err := labtest.New(t, "nic").Host("peer")
	must(t, err)
	link, err := netlink.LinkByName("eth2")
	must(t, err)
	must(t, netlink.LinkSetNsFd(link, int(peer.NS())))
	for file, value := range map[string]string{
		"ipv6/conf/eth0/disable_ipv6": "0", "ipv6/conf/all/accept_dad": "0", "ipv6/conf/eth0/accept_dad": "0",
		"ipv6/conf/all/forwarding": "1", "ipv4/ip_forward": "1",
		// Both cards are on one wire: each answers for its own addresses alone.
		"ipv4/conf/all/arp_ignore": "1", "ipv4/conf/all/arp_announce": "2", "ipv4/conf/all/rp_filter": "0",
	} {
		must(t, os.WriteFile("/proc/sys/net/"+file, []byte(value), 0))
	}
	for name, cidr := range map[string]string{"eth0": "2001:db8:1::1/64", "eth1": "198.51.100.1/24"} {
		link, err := netlink.LinkByName(name)
		must(t, err)
		address, err := netlink.ParseAddr(cidr)
		must(t, err)
		must(t, netlink.AddrReplace(link, address))
	}
	must(t, errors.Join(
		peer.Sysctl("net.ipv6.conf.eth2.disable_ipv6", "0"), peer.Sysctl("net.ipv6.conf.eth2.accept_dad", "0"), peer.Up("eth2"),
		peer.Addr("eth2", "2001:db8:1::2/64"), peer.Addr("eth2", "198.51.100.2/24"),
		peer.Route("64:ff9b::/96", "2001:db8:1::1", "eth2"), peer.Route("192.0.2.2/32", "198.51.100.1", "eth2"),
	))
	l, err := peer.Listen("tcp4", ":7")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return peer
}

// exchange has n bytes echoed through the translator.
func exchange(peer *lab.Host, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := peer.Dial(ctx, "tcp6", "[64:ff9b::198.51.100.2]:7")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	sent := make([]byte, n)
	for i := range sent {
		sent[i] = byte(rand.Uint32())
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-wrote); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("%d bytes came back, not the %d that were sent", len(got), n)
	}
	return nil
}

// all has several connections at the same time, so that each queue gets some.
func all(t *testing.T, peer *lab.Host, n int) {
	t.Helper()
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() { errs[i] = exchange(peer, 100_000) })
	}
	wait.Wait()
	must(t, errors.Join(errs...))
}

// daemon is an isthmus that runs.
type daemon struct {
	cmd  *exec.Cmd
	said bytes.Buffer
	done chan struct{}
}

func run(t *testing.T, zc string) *daemon {
	t.Helper()
	config := fmt.Sprintf("[control]\nsocket = %q\n[router]\nstate_dir = ''\nallow_private4 = true\n"+
		"eam = [{ ipv6 = '2001:db8:1::2/128', ipv4 = '192.0.2.2/32' }]\n", filepath.Join(t.TempDir(), "control.sock"))
	for _, name := range []string{"eth0", "eth1"} {
		config += fmt.Sprintf("[[router.port]]\ninterface = %q\nattach = 'driver'\nzero_copy = %q\n", name, zc)
	}
	file := filepath.Join(t.TempDir(), "isthmus.toml")
	must(t, os.WriteFile(file, []byte(config), 0o644))
	d := &daemon{cmd: exec.Command(labtest.Isthmus(t), "run", "--only", "router", "-c", file), done: make(chan struct{})}
	out, err := d.cmd.StderrPipe()
	must(t, err)
	must(t, d.cmd.Start())
	t.Cleanup(func() { _ = d.cmd.Process.Kill(); _ = d.cmd.Wait() })
	ready := make(chan bool, 1)
	go func() {
		defer close(d.done)
		for s := bufio.NewScanner(out); s.Scan(); {
			fmt.Fprintln(&d.said, s.Text())
			if strings.Contains(s.Text(), `"message":"ready"`) {
				ready <- true
			}
		}
	}()
	select {
	case <-ready:
	case <-d.done:
		if driver(t, "eth0") == "virtio_net" && zc == "require" && strings.Contains(d.said.String(), "zero-copy refused") {
			t.Skip("virtio_net refuses zero-copy: isthmus run ends and says so")
		}
		t.Fatalf("it ended and said\n%s", &d.said)
	case <-time.After(patience):
		_ = d.cmd.Process.Kill()
		<-d.done
		t.Fatalf("it was not ready after %v; it said\n%s", patience, &d.said)
	}
	return d
}

func (d *daemon) metrics(t *testing.T) string {
	t.Helper()
	resp, err := (&http.Client{Timeout: patience}).Get("http://[::1]:9464/metrics")
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(body)
}

// stop ends it, and looks for what it has left on the cards.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	<-d.done
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("%v; it said\n%s", err, &d.said)
	}
	for _, name := range []string{"eth0", "eth1"} {
		link, err := netlink.LinkByName(name)
		must(t, err)
		if x := link.Attrs().Xdp; x != nil && x.Attached {
			t.Errorf("%s still has a program", name)
		}
	}
}
