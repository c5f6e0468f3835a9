package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"aarch64.com/isthmus/proxy/routes/store"
)

// maxPrefix keeps requests within what etcd takes.
const maxPrefix = store.MaxKey

// endpoints returns them as URLs, and whether they speak TLS.
func (c Config) endpoints() (list []string, secure bool, err error) {
	if len(c.Endpoints) == 0 {
		return nil, false, errors.New("no etcd endpoints; name at least one, such as https://etcd1.example:2379")
	}
	scheme := ""
	for _, e := range c.Endpoints {
		text := e
		if !strings.Contains(text, "://") {
			text = "http://" + text
			if c.CA != "" || c.Cert != "" {
				text = "https" + strings.TrimPrefix(text, "http")
			}
		}
		u, err := url.Parse(text)
		if err != nil {
			return nil, false, fmt.Errorf("etcd endpoint %q: %w", e, err)
		}
		host, port, err := net.SplitHostPort(u.Host)
		switch {
		case err != nil || host == "" || port == "":
			return nil, false, fmt.Errorf("etcd endpoint %q: it needs a host and a port, such as https://etcd1.example:2379", e)
		case u.Scheme != "http" && u.Scheme != "https":
			return nil, false, fmt.Errorf("etcd endpoint %q: http or https, not %s", e, u.Scheme)
		case u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
			return nil, false, fmt.Errorf("etcd endpoint %q: nothing but host and port; who we are and the keys' prefix are said elsewhere", e)
		case scheme != "" && scheme != u.Scheme:
			return nil, false, fmt.Errorf("etcd endpoint %q: all endpoints speak http or all https", e)
		case u.Scheme == "http" && (c.CA != "" || c.Cert != ""):
			return nil, false, fmt.Errorf("etcd endpoint %q: certificates need https", e)
		}
		scheme = u.Scheme
		list = append(list, u.Scheme+"://"+u.Host)
	}
	return list, scheme == "https", nil
}

func (c Config) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("certificates of etcd's authorities: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificates of etcd's authorities: %s has none in PEM form", c.CA)
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("a certificate for etcd needs its key, and a key its certificate")
	}
	if c.Cert == "" {
		return t, nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate for etcd: %w", err)
		}
		return &pair, nil
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	// Certificates live for days; the process for longer.
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return t, nil
}
