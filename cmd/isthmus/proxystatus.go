package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/proxy"
)

// topHosts is how many hosts the status lists.
const topHosts = 10

// proxyStatus is what a running web proxy says about itself.
type proxyStatus struct {
	Listen      []string                     `json:"listen"`
	Connections int                          `json:"connections"` // TCP, open
	Results     map[string]map[string]uint64 `json:"results"`     // by protocol and result, without zeros
	Up          uint64                       `json:"up_bytes"`
	Down        uint64                       `json:"down_bytes"`
	Routes      routesStatus                 `json:"routes"`
	// The hosts with most requests and connections, and with most bytes.
	TopRequests []hostUse `json:"top_requests"`
	TopBytes    []hostUse `json:"top_bytes"`
}

type routesStatus struct {
	File     string    `json:"file"`
	Routes   int       `json:"routes"`
	Revision uint64    `json:"revision"`
	Loaded   time.Time `json:"loaded"`
	Problem  string    `json:"problem,omitempty"`
}

type hostUse struct {
	Host  string `json:"host"`
	Count uint64 `json:"count"`
	// By how much the count may be too high.
	Over uint64 `json:"over,omitempty"`
}

func hostUses(list []proxy.HostUse) []hostUse {
	out := make([]hostUse, 0, len(list))
	for _, u := range list {
		out = append(out, hostUse(u))
	}
	return out
}

func (s *proxyService) status(out *status, c *config.Config) {
	stats, r := s.server.Stats(), s.fileStats()
	p := &proxyStatus{
		Listen: describeListens(c), Connections: stats.Connections, Results: map[string]map[string]uint64{},
		Routes:      routesStatus{File: c.Proxy.RoutesFile, Routes: r.Routes, Revision: r.Revision, Loaded: r.Loaded, Problem: r.Problem},
		TopRequests: hostUses(s.server.TopRequests(topHosts)), TopBytes: hostUses(s.server.TopBytes(topHosts)),
	}
	for protocol := range proxy.NumProtocols {
		p.Up, p.Down = p.Up+stats.Up[protocol], p.Down+stats.Down[protocol]
		for result, n := range stats.Results[protocol] {
			if n == 0 {
				continue
			}
			if p.Results[protocol.String()] == nil {
				p.Results[protocol.String()] = map[string]uint64{}
			}
			p.Results[protocol.String()][proxy.Result(result).String()] = n
		}
	}
	out.Proxy = p
}

func (s *proxyStatus) print(w io.Writer) {
	fmt.Fprintf(w, "web proxy\t%s\n", orNone(s.Listen))
	if s.Routes.File != "" {
		fmt.Fprintf(w, "routes\t%d, revision %d of %s ago\n", s.Routes.Routes, s.Routes.Revision, time.Since(s.Routes.Loaded).Round(time.Second))
	}
	for line := range strings.Lines(s.Routes.Problem) {
		fmt.Fprintf(w, "routes not used\t%s\n", strings.TrimSuffix(line, "\n"))
	}
	fmt.Fprintf(w, "visitors\t%d connections, %s up, %s down\n", s.Connections, byteCount(s.Up), byteCount(s.Down))
	for protocol := range proxy.NumProtocols {
		if counts := s.Results[protocol.String()]; counts != nil {
			fmt.Fprintf(w, "%s\t%s\n", protocol, orNone(counted(counts)))
		}
	}
	// One line each: names are long, and a column of numbers is read at a glance.
	for _, top := range []struct {
		name   string
		list   []hostUse
		format func(uint64) string
	}{
		{"most requests", s.TopRequests, func(n uint64) string { return strconv.FormatUint(n, 10) }},
		{"most bytes", s.TopBytes, byteCount},
	} {
		for i, u := range top.list {
			if i > 0 {
				top.name = ""
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", top.name, u.Host, top.format(u.Count))
		}
	}
}

// byteCount is a number of bytes as people read it.
func byteCount(n uint64) string {
	if n < 10_000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for ; f >= 1000; unit++ {
		f /= 1000
	}
	return fmt.Sprintf("%.1f %cB", f, " kMGTPE"[unit])
}
