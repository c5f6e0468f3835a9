package proxiestab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/browsertest"
	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/perf/lab/labetcd/etcdtest"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/perf/routesync"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

const (
	members = 3 // of etcd
	nodes   = 5

	// patience is how long all nodes may take with one change.
	patience = 30 * time.Second
)

// cluster is the operator's: hypervisors that are on the Internet.
type cluster struct {
	*routesync.World
	t       *testing.T
	ctx     context.Context
	net     *internet
	tls     certificate
	isthmus string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	labtest.Need(t)
	labtest.NeedProgram(t, browsertest.Program, browsertest.Program)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	c := &cluster{t: t, ctx: ctx, tls: newCertificate(t, "*."+operators), isthmus: labtest.Isthmus(t)}
	l := labtest.New(t, "proxiestab")
	c.net = newInternet(t, l)
	var names strings.Builder
	w, err := routesync.New(ctx, l, routesync.Config{
		Binary: c.isthmus, Nodes: nodes, Bare: true,
		Etcd: labetcd.Config{Program: etcdtest.Current(t), Members: members},
		Extend: func(n *routesync.Node) (routesync.Extension, error) {
			h := c.net.join(n.Host, serverArea)
			names.WriteString(h.records(n.Name) + h.records("dfw.proxy"))
			return routesync.Extension{
				At: netip.AddrPortFrom(h.v4, 80), From: c.net.visitor.Host,
				Sections: fmt.Sprintf("[api]\nlisten = [\"[::]:8443\"]\ncert_file = %q\nkey_file = %q\n", c.tls.cert, c.tls.key),
			}, n.Host.UseResolver(c.net.resolver.v4)
		},
	})
	c.World = w
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range w.Nodes {
				if p := n.Process(); p != nil {
					t.Logf("%s:\n%s", n.Name, p.Said())
				}
			}
		}
		must(t, w.Close())
	})
	must(t, err)
	c.net.startDNS(names.String())
	return c
}

// page is where a node has the proxies tab.
func page(n *routesync.Node) string { return "https://" + n.Name + "." + operators + ":8443" }

// browser is a Chromium of the visitor's.
func (c *cluster) browser() *browsertest.Browser {
	c.t.Helper()
	return browsertest.Start(c.t, browsertest.Config{
		Host: c.net.visitor.Host, Pictures: "cluster-", Flags: map[string]string{"ignore-certificate-errors-spki-list": c.tls.pin},
	})
}

// cli runs a command of the operator's on a hypervisor.
func (c *cluster) cli(n *routesync.Node, args ...string) {
	c.t.Helper()
	out, err := exec.CommandContext(c.ctx, c.isthmus, append(args, "--socket", n.Socket)...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("isthmus %v: %v\n%s", args, err, out)
	}
}

// token makes one.
func (c *cluster) token(n *routesync.Node, args ...string) string {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "token")
	c.cli(n, append([]string{"token", "create", "--write-to", file}, args...)...)
	secret, err := os.ReadFile(file)
	must(c.t, err)
	return strings.TrimSpace(string(secret))
}

// served waits until every node leads visitors of a site to a VM, or nowhere.
func (c *cluster) served(host string, vm netip.Addr) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	for _, n := range c.Nodes {
		must(c.t, n.Until(ctx, host, vm))
	}
}

// certificate is that of all nodes, signed by itself.
type certificate struct {
	cert, key string // files
	pin       string // what Chromium knows the key by
}

func newCertificate(t *testing.T, names ...string) (c certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	pin := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	c.pin = base64.StdEncoding.EncodeToString(pin[:])
	dir := t.TempDir()
	for _, f := range []struct {
		path       *string
		name, kind string
		content    []byte
	}{{&c.cert, "api.pem", "CERTIFICATE", der}, {&c.key, "api.key", "PRIVATE KEY", secret}} {
		*f.path = filepath.Join(dir, f.name)
		must(t, os.WriteFile(*f.path, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.content}), 0o600))
	}
	return c
}
