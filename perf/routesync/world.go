package routesync

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/proxy/control/client"
	"aarch64.com/isthmus/proxy/control/wire"
)

// Names in the store.
const (
	project = "bench"         // whose proxies change
	domain  = "bench.example" // which it is trusted with
)

// prefixes are those of the projects that only make the store as full as it is; one
// /64 each.
var prefixes = netip.MustParsePrefix("2001:db8:64::/48")

// Config says what a World has.
type Config struct {
	Binary string // the isthmus to run
	Etcd   labetcd.Config
	Nodes  int
	Bare   bool // without the project whose changes are timed

	// Extend, if there is one, says what more a node shall have, whose host is there
	// already and whose process is not.
	Extend func(*Node) (Extension, error)
}

// Extension is what a node has beyond the cluster.
type Extension struct {
	// At is where its web proxy listens as well, for the visitors of Ask and Until, and
	// From is where those are.
	At   netip.AddrPort
	From *lab.Host
	// Sections are more of its configuration.
	Sections string
}

// World is a cluster of etcd with nodes that serve what is in it.
type World struct {
	Etcd  *labetcd.Cluster
	Nodes []*Node
	// VMs are addresses of one VM, which answers with the one that it was asked at.
	VMs []netip.Addr

	lab    *lab.Lab
	config Config
	dir    string
	server *http.Server
}

// Node is an isthmus.
type Node struct {
	Name string
	Host *lab.Host
	Addr netip.AddrPort // of its web proxy
	API  *client.Client // as root of its host
	// Socket is the path of its control socket.
	Socket string

	world   *World
	config  string // file
	process *bench.Process
	web     *http.Client
}

// New starts everything in the lab, which is the caller's. After an error, too, the
// caller closes the world.
func New(ctx context.Context, l *lab.Lab, c Config) (*World, error) {
	w := &World{lab: l, config: c}
	var err error
	if w.dir, err = os.MkdirTemp("", "isthmus-routesync-"); err != nil {
		return w, err
	}
	if w.Etcd, err = labetcd.Start(l, c.Etcd); err != nil {
		return w, err
	}
	if err := w.startVM(); err != nil {
		return w, fmt.Errorf("start the VM: %w", err)
	}
	for n := range c.Nodes {
		if err := w.addNode(n); err != nil {
			return w, fmt.Errorf("start node%d: %w", n, err)
		}
	}
	for _, n := range w.Nodes {
		if err := n.Start(ctx); err != nil {
			return w, err
		}
	}
	if c.Bare {
		return w, nil
	}
	api := w.Nodes[0].API
	if _, _, err := api.PutProject(ctx, project, wire.PutProject{Prefixes: []string{netip.PrefixFrom(w.VMs[0], 64).Masked().String()}, MaxProxies: 10000}, client.If{}); err != nil {
		return w, err
	}
	_, _, err = api.PutTrust(ctx, domain, project, client.If{})
	return w, err
}

// startVM makes a web server that says which of its addresses it was asked at.
func (w *World) startVM() error {
	vm, err := w.lab.Host("vm")
	if err != nil {
		return err
	}
	if err := w.Etcd.Join(vm); err != nil {
		return err
	}
	first := w.Etcd.Addr(vm)
	second := first.Next()
	if err := vm.Addr("etcd", netip.PrefixFrom(second, 64).String()); err != nil {
		return err
	}
	w.VMs = []netip.Addr{first, second}
	l, err := vm.Listen("tcp6", "[::]:80")
	if err != nil {
		return err
	}
	w.server = &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		at := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		fmt.Fprint(rw, at.IP)
	})}
	go func() { _ = w.server.Serve(l) }()
	return nil
}

func (w *World) addNode(i int) error {
	n := &Node{Name: fmt.Sprintf("node%d", i), world: w}
	var err error
	if n.Host, err = w.lab.Host(n.Name); err != nil {
		return err
	}
	if err := w.Etcd.Join(n.Host); err != nil {
		return err
	}
	inside := netip.AddrPortFrom(w.Etcd.Addr(n.Host), 80)
	more := Extension{At: inside, From: w.Etcd.Net}
	listens := []netip.AddrPort{inside}
	if w.config.Extend != nil {
		if more, err = w.config.Extend(n); err != nil {
			return err
		}
		listens = append(listens, more.At)
	}
	n.Addr = more.At
	dir := filepath.Join(w.dir, n.Name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	endpoints, err := json.Marshal(w.Etcd.Endpoints())
	if err != nil {
		return err
	}
	fronts, err := json.Marshal(listens)
	if err != nil {
		return err
	}
	n.config = filepath.Join(dir, "isthmus.toml")
	n.Socket = filepath.Join(dir, "control.sock")
	text := fmt.Sprintf(`pop = "dfw"
domain = "infra.example"
[proxy]
listen_http = %s
vm_prefixes = ["%s", "%s"]
[routes]
engine = "etcd"
node = "%s"
copy = "%s/routes.copy"
[routes.etcd]
endpoints = %s
[control]
socket = "%s"
[metrics]
listen = ""
%s`, fronts, prefixes, netip.PrefixFrom(w.VMs[0], 64).Masked(), n.Name, dir, endpoints, n.Socket, more.Sections)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		return err
	}
	if n.API, err = client.New(client.Options{URL: "unix:" + n.Socket}); err != nil {
		return err
	}
	n.web = &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return more.From.Dial(ctx, "tcp", n.Addr.String())
		}},
	}
	w.Nodes = append(w.Nodes, n)
	return nil
}

// Start runs the node, and waits until it answers visitors and its API answers.
func (n *Node) Start(ctx context.Context) error {
	if err := n.Launch(); err != nil {
		return err
	}
	err := bench.WaitFor(ctx, func() bool {
		_, err := n.API.Me(ctx)
		return err == nil || n.ended() != nil
	})
	if failed := n.ended(); failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("%s is not ready: %w\n%s", n.Name, err, n.process.Said())
	}
	return n.process.WaitListening(n.Host, 80)
}

// Launch runs the node, and waits for nothing.
func (n *Node) Launch() (err error) {
	n.process, err = bench.StartProcess(n.Host, n.world.dir, exec.Command(n.world.config.Binary, "run", "-c", n.config, "--only", "proxy,api"))
	return err
}

// Process is the node's.
func (n *Node) Process() *bench.Process { return n.process }

func (n *Node) ended() error {
	select {
	case <-n.process.Done:
		return fmt.Errorf("%s ended: %v\n%s", n.Name, n.process.Err, n.process.Said())
	default:
		return nil
	}
}

// Ask is what a visitor of a site gets from the node: the VM's address, or "" with
// the status of another answer.
func (n *Node) Ask(ctx context.Context, host string) (vm string, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/", nil)
	if err != nil {
		return "", 0, err
	}
	resp, err := n.web.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		return "", 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return "", resp.StatusCode, nil
	}
	return strings.TrimSpace(b.String()), resp.StatusCode, nil
}

// Until waits until the node answers for a host as it should: with an address of
// the VM, or, for the zero address, with 404.
func (n *Node) Until(ctx context.Context, host string, want netip.Addr) error {
	last := ""
	for {
		vm, status, err := n.Ask(ctx, host)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %s: want %v, last was %s: %w", n.Name, host, want, last, ctx.Err())
		case err == nil && want.IsValid() && vm == want.String(), err == nil && !want.IsValid() && status == http.StatusNotFound:
			return nil
		case err == nil:
			last = fmt.Sprintf("%q with status %d", vm, status)
		default:
			last = err.Error()
		}
		if err := bench.Pause(ctx, 500*time.Microsecond); err != nil {
			return err
		}
	}
}

// Put makes a site lead to a VM, by the API of a node, and gives the revision.
func (n *Node) Put(ctx context.Context, host string, vm netip.Addr) (int64, error) {
	none := uint16(0)
	p, _, err := n.API.PutProxy(ctx, project, host, wire.PutProxy{Backends: []netip.Addr{vm}, HTTPS: &none}, client.If{})
	return p.Revision, err
}

// Delete removes a site.
func (n *Node) Delete(ctx context.Context, host string) error {
	_, err := n.API.DeleteProxy(ctx, project, host, client.If{})
	return err
}

// Fill puts routes into the store that nobody asks for, a thousand to a project.
func (w *World) Fill(ctx context.Context, routes int) error {
	const each = 1000
	type projectRecord struct {
		Name     string   `json:"name"`
		Prefixes []string `json:"prefixes"`
	}
	type routeRecord struct {
		Host     string   `json:"host"`
		Project  string   `json:"project"`
		Backends []string `json:"backends"`
		Proof    string   `json:"proof"`
	}
	var file struct {
		Project []projectRecord `json:"project"`
		Route   []routeRecord   `json:"route"`
	}
	base := prefixes.Addr().As16()
	for i := range routes {
		p := i / each
		base[6], base[7], base[15] = byte(p>>8), byte(p), 0
		name := fmt.Sprintf("p%d", p)
		if i%each == 0 {
			file.Project = append(file.Project, projectRecord{name, []string{netip.PrefixFrom(netip.AddrFrom16(base), 64).String()}})
		}
		base[15] = 2
		file.Route = append(file.Route, routeRecord{fmt.Sprintf("www%d.site%d.example", i, p), name, []string{netip.AddrFrom16(base).String()}, "proven"})
	}
	data, err := json.Marshal(file)
	if err != nil {
		return err
	}
	_, err = w.Nodes[0].API.Import(ctx, bytes.NewReader(data), client.ImportOptions{Format: "json"})
	return err
}

// Close ends all processes.
func (w *World) Close() error {
	var errs []error
	for _, n := range w.Nodes {
		if n.process != nil {
			errs = append(errs, n.process.Stop())
		}
		n.web.CloseIdleConnections()
		n.API.Close()
	}
	if w.server != nil {
		errs = append(errs, w.server.Close())
	}
	if w.Etcd != nil {
		errs = append(errs, w.Etcd.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}
