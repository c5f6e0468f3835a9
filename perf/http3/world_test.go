package http3

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// Addresses, from the ranges set apart for documentation.
const (
	proxy4    = "192.0.2.1"
	proxy6    = "2001:db8:51::1"
	visitor4  = "192.0.2.9"
	visitor6  = "2001:db8:51::9"
	vmAddr    = "2001:db8:64::2"
	deadAddr  = "2001:db8:64::dead" // nobody's
	otherAddr = "2001:db8:65::2"
)

// patience bounds what takes milliseconds on an idle machine.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") // of [nat]
	os.Exit(labtest.Main(m))
}

// world is the network and what runs in it.
type world struct {
	t                              *testing.T
	visitor, hypervisor, vm, other *lab.Host
	dir, file, routesFile, config  string
	metrics                        string // where they are asked for
}

const routesOfAll = `
[[route]]
host = "a.example"
project = "one"
backends = ["` + vmAddr + `"]
[[route]]
host = "b.example"
project = "two"
backends = ["` + otherAddr + `"]
[[route]]
host = "retry.example"
project = "one"
backends = ["` + vmAddr + `"]
https = 444
[[route]]
host = "second.example"
project = "one"
backends = ["` + deadAddr + `", "` + vmAddr + `"]
[[route]]
host = "closed.example"
project = "one"
backends = ["` + otherAddr + `", "` + vmAddr + `"]
https = 444
[[route]]
host = "v2.example"
project = "one"
backends = ["` + vmAddr + `"]
https = 445
`

func newWorld(t *testing.T, more string) *world {
	t.Helper()
	l := labtest.New(t, "http3")
	w := &world{t: t, visitor: labtest.Host(t, l, "visitor"), hypervisor: labtest.Host(t, l, "hypervisor"),
		vm: labtest.Host(t, l, "vm"), other: labtest.Host(t, l, "other"), dir: t.TempDir(), metrics: "[::1]:9464"}
	for port, far := range map[string]*lab.Host{"wan0": w.visitor, "vm0": w.vm, "vm1": w.other} {
		must(t, l.Link(w.hypervisor, far, lab.LinkConfig{NameA: port, ChecksumOffload: true, GRO: true}))
	}
	must(t, errors.Join(
		w.visitor.Addr("eth0", visitor4+"/24"), w.hypervisor.Addr("wan0", proxy4+"/24"),
		w.visitor.Addr("eth0", visitor6+"/64"), w.hypervisor.Addr("wan0", proxy6+"/64"),
		w.vm.Addr("eth0", vmAddr+"/64"), w.hypervisor.Addr("vm0", "2001:db8:64::1/64"),
		w.other.Addr("eth0", otherAddr+"/64"), w.hypervisor.Addr("vm1", "2001:db8:65::1/64"),
	))
	w.file, w.routesFile = filepath.Join(w.dir, "isthmus.toml"), filepath.Join(w.dir, "routes.toml")
	w.replace(w.routesFile, routesOfAll)
	w.config = fmt.Sprintf(`
[control]
socket = "%[1]s/control.sock"
[metrics]
listen = "[::1]:9464"
[proxy]
listen_quic = ["%[2]s:443", "[%[3]s]:443"]
vm_prefixes = ["2001:db8:64::/64", "2001:db8:65::/64"]
routes_file = %[4]q
%[5]s`, w.dir, proxy4, proxy6, w.routesFile, more)
	w.replace(w.file, w.config)
	return w
}

// in is the same world for a part of the test.
func (w *world) in(t *testing.T) *world {
	part := *w
	part.t = t
	return &part
}

// replace writes a file as a careful writer does.
func (w *world) replace(path, content string) {
	w.t.Helper()
	must(w.t, errors.Join(os.WriteFile(path+".new", []byte(content), 0o600), os.Rename(path+".new", path)))
}

// start starts the proxy and waits until it is ready.
func (w *world) start() *bench.Process {
	w.t.Helper()
	p, err := bench.StartProcess(w.hypervisor, w.dir, exec.Command(labtest.Isthmus(w.t), "run", "--only", "proxy", "-c", w.file))
	must(w.t, err)
	w.t.Cleanup(func() {
		_ = p.Cmd.Process.Kill() // it may have ended
		<-p.Done
	})
	w.until("isthmus is ready", func() bool {
		if ended(p) {
			w.t.Fatalf("isthmus ended: %v\n%s", p.Err, p.Said())
		}
		return strings.Contains(p.Said(), `"message":"ready"`)
	})
	return p
}

func ended(p *bench.Process) bool {
	select {
	case <-p.Done:
		return true
	default:
		return false
	}
}

// metric adds up the samples whose name and labels begin so.
func (w *world) metric(prefix string) (sum float64) {
	w.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: w.hypervisor.Dial, DisableKeepAlives: true}}
	r, err := client.Get("http://" + w.metrics + "/metrics")
	must(w.t, err)
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	must(w.t, err)
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, prefix) {
			fields := strings.Fields(line)
			n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			must(w.t, err)
			sum += n
		}
	}
	return sum
}

func event(name string) string {
	return `isthmus_proxy_quic_events_total{event="` + name + `"}`
}

// serve serves HTTP/3 on a VM: ?n=N gives that many bytes, other pages the
// server's name and the request's host; what is posted comes back.
func (w *world) serve(h *lab.Host, name, at string, cert tls.Certificate, versions []quic.Version, retry bool) {
	t := w.t
	t.Helper()
	c, err := h.ListenPacket("udp6", at)
	must(t, err)
	tr := &quic.Transport{Conn: c, ConnectionIDLength: 8}
	if retry {
		tr.VerifySourceAddress = func(net.Addr) bool { return true }
	}
	l, err := tr.ListenEarly(http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}}), &quic.Config{Versions: versions, Allow0RTT: true})
	must(t, err)
	s := &http3.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.Copy(w, r.Body)
			return
		}
		if n, err := strconv.Atoi(r.URL.Query().Get("n")); err == nil {
			_, _ = w.Write(make([]byte, n))
			return
		}
		fmt.Fprintf(w, "%s for %s", name, r.Host)
	})}
	go func() { _ = s.ServeListener(l) }()
	t.Cleanup(func() { s.Close(); tr.Close(); c.Close() })
}

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("never: %s", what)
		}
	}
}

// certificate is for all the names, signed by itself.
func certificate(t *testing.T, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	x := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
	must(t, err)
	x, err = x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(x)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
