package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// client is an HTTP client of one host; it opens a connection per transfer.
type client struct {
	http.Client
	conn net.Conn // the last one
}

func newClient(h *lab.Host) *client {
	c := &client{}
	c.Transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := h.Dial(ctx, network, address)
		c.conn = conn
		return conn, err
	}}
	return c
}

func (c *client) close() { c.CloseIdleConnections() }

// host is an address as it is written in a URL (RFC 3986 section 3.2.2).
func host(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

func url(host, path string) string { return fmt.Sprintf("http://%s:%d%s", host, httpPort, path) }

func (c *client) fetch(req *http.Request) (*http.Response, error) {
	resp, err := c.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("the server answers %s", resp.Status)
	}
	return resp, err
}

// greet fetches the front page of a host, given by name or address, and returns
// whom it greets.
func greet(ctx context.Context, from *lab.Host, to string) (as netip.AddrPort, err error) {
	c := newClient(from)
	defer c.close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url(to, "/"), nil)
	if err != nil {
		return as, err
	}
	resp, err := c.fetch(req)
	if err != nil {
		return as, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return as, err
	}
	_, text, _ := strings.Cut(string(body), "You are ")
	address, port, _ := strings.Cut(strings.TrimSuffix(text, ".\n"), ", port ")
	if as, err = netip.ParseAddrPort(net.JoinHostPort(address, port)); err != nil {
		return as, fmt.Errorf("the page should greet us, and says %q", body)
	}
	return as, nil
}

// get has the front page greet the caller, which must be by the address that a
// translator should have given it.
func get(ctx context.Context, from *lab.Host, to, as netip.Addr) (string, error) {
	seen, err := greet(ctx, from, host(to))
	if err == nil && seen.Addr() != as {
		err = fmt.Errorf("seen as %s, should be %s", show(seen.Addr()), show(as))
	}
	if err != nil {
		return "", err
	}
	return "seen as " + show(as), nil
}

// download fetches the large file and compares its checksum.
func download(ctx context.Context, from *lab.Host, to string) (string, error) {
	c := newClient(from)
	defer c.close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url(to, "/bulk"), nil)
	if err != nil {
		return "", err
	}
	_, want := bulk()
	start := time.Now()
	resp, err := c.fetch(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, resp.Body)
	if err != nil {
		return "", fmt.Errorf("after %d bytes: %w", n, err)
	}
	took := time.Since(start)
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return "", fmt.Errorf("SHA-256 of %d bytes is %s, should be %s", n, got, want)
	}
	return "SHA-256 right, " + rate(n, took), nil
}

// upload sends the large file, has the far side compute its checksum, and
// returns the path's MTU as the kernel knew it before and after.
func upload(ctx context.Context, from *lab.Host, to string) (before, after int, speed string, err error) {
	c := newClient(from)
	defer c.close()
	// A first, small request opens the connection, which the upload then uses.
	first, err := http.NewRequestWithContext(ctx, http.MethodGet, url(to, "/"), nil)
	if err != nil {
		return 0, 0, "", err
	}
	resp, err := c.fetch(first)
	if err != nil {
		return 0, 0, "", err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err != nil {
		return 0, 0, "", err
	}
	conn := c.conn
	if before, err = pathMTU(conn); err != nil {
		return 0, 0, "", err
	}
	data, want := bulk()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url(to, "/bulk"), bytes.NewReader(data))
	if err != nil {
		return 0, 0, "", err
	}
	start := time.Now()
	resp, err = c.fetch(req)
	if err != nil {
		return 0, 0, "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, 0, "", err
	}
	took := time.Since(start)
	if string(got) != want {
		return 0, 0, "", fmt.Errorf("SHA-256 of what arrived is %s, should be %s", got, want)
	}
	if c.conn != conn {
		return 0, 0, "", errors.New("the connection broke and was opened again")
	}
	after, err = pathMTU(conn)
	return before, after, rate(int64(len(data)), took), err
}

// pathMTU is what the kernel believes about the path of a connection, in bytes.
func pathMTU(c net.Conn) (mtu int, err error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	level, option := unix.IPPROTO_IP, unix.IP_MTU
	if c.RemoteAddr().(*net.TCPAddr).IP.To4() == nil {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	if ctlErr := raw.Control(func(fd uintptr) { mtu, err = unix.GetsockoptInt(int(fd), level, option) }); ctlErr != nil {
		return 0, ctlErr
	}
	return mtu, err
}

func rate(bytes int64, took time.Duration) string {
	mbit := float64(bytes) * 8 / 1e6 / took.Seconds()
	if mbit >= 1000 {
		return fmt.Sprintf("%.1f Gbit/s", mbit/1000)
	}
	return fmt.Sprintf("%.0f Mbit/s", mbit)
}

// udpTries is how often a datagram is sent again: UDP may lose one, and the
// first of a size may be the one that discovers the path's MTU.
const udpTries = 3

// udp sends a datagram of each size and wants the same bytes back. It returns
// how many had to be sent again.
func udp(ctx context.Context, from *lab.Host, to netip.Addr, sizes ...int) (again int, err error) {
	for _, size := range sizes {
		n, err := udpRoundTrip(ctx, from, to, size)
		if err != nil {
			return again, fmt.Errorf("%d bytes: %w", size, err)
		}
		again += n
	}
	return again, nil
}

func udpRoundTrip(ctx context.Context, from *lab.Host, to netip.Addr, size int) (again int, err error) {
	d, err := dialDatagram(from, netip.AddrPortFrom(to, udpPort))
	if err != nil {
		return 0, err
	}
	defer d.close()
	data, _ := bulk()
	for again = range udpTries {
		if err := d.send(data[:size]); err != nil {
			return again, err
		}
		got, said, err := d.receive(ctx, replyTimeout)
		switch {
		case errors.Is(err, errSilence):
			continue
		case err != nil:
			return again, err
		case said != nil && said.MTU != 0:
			continue // the kernel knows better now
		case said != nil:
			return again, fmt.Errorf("%s sent ICMP type %d, code %d", show(said.From), said.Type, said.Code)
		case !bytes.Equal(got, data[:size]):
			return again, fmt.Errorf("%d bytes came back, and not those that were sent", len(got))
		}
		return again, nil
	}
	return again, fmt.Errorf("%w to %d datagrams", errSilence, udpTries)
}

// tooBig sends a datagram that must not be fragmented and returns who said
// that it is too big, and what would fit.
func tooBig(ctx context.Context, from *lab.Host, to netip.Addr, size int) (*icmpError, error) {
	d, err := dialDatagram(from, netip.AddrPortFrom(to, udpPort))
	if err != nil {
		return nil, err
	}
	defer d.close()
	if err := d.dontFragment(); err != nil {
		return nil, err
	}
	data, _ := bulk()
	got, said, err := d.exchange(ctx, data[:size], udpTries, replyTimeout)
	switch {
	case err != nil:
		return nil, err
	case said == nil:
		return nil, fmt.Errorf("%d bytes came back, though they should not have fitted", len(got))
	case said.MTU == 0:
		return nil, fmt.Errorf("%s sent ICMP type %d, code %d", show(said.From), said.Type, said.Code)
	}
	return said, nil
}
