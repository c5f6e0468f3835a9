package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// Options say where the API is, and who asks.
type Options struct {
	// URL is https://HOST[:PORT], http:// for a loopback address, or unix:PATH.
	URL string
	// TokenFile has the token; none is needed over the Unix socket. Token is the
	// same without a file.
	TokenFile, Token string
	CAFile           string        // PEM, of who signed the server's certificate; "": those that this host trusts
	Timeout          time.Duration // of a request; 0: 30 s
}

// New makes a client. It connects with the first request.
func New(o Options) (*Client, error) {
	t := &http.Transport{ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute, Proxy: http.ProxyFromEnvironment}
	c := &Client{where: o.URL, token: o.Token, http: &http.Client{
		Timeout:   o.Timeout,
		Transport: t,
		// A token is for the host that it was given for.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if c.http.Timeout == 0 {
		c.http.Timeout = 30 * time.Second
	}
	if path, ok := strings.CutPrefix(o.URL, "unix:"); ok {
		c.base, c.where, c.unix = "http://localhost", path, true
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		return c, nil
	}
	u, err := url.Parse(o.URL)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http", u.Path != "" && u.Path != "/", u.RawQuery != "", u.User != nil:
		return nil, fmt.Errorf("%q is no address of the API; write one such as https://isthmus.example.com or unix:/run/isthmus/control.sock", o.URL)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("%s: the token would cross the network in clear text; write https://", o.URL)
	}
	c.base = u.Scheme + "://" + u.Host
	if t.TLSClientConfig, err = tlsConfig(o.CAFile); err != nil {
		return nil, err
	}
	if o.TokenFile != "" {
		if c.token, err = readToken(o.TokenFile); err != nil {
			return nil, err
		}
	}
	if c.token == "" {
		return nil, fmt.Errorf("%s wants a token; give a file with one", o.URL)
	}
	return c, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

func tlsConfig(caFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("certificates to trust: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it; give a PEM file", caFile)
	}
	return c, nil
}

// readToken reads a file that nobody else may read.
func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s: others may read this token; run chmod 600 %[1]s", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<12))
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%s: not one token; the file has to have one and nothing else", path)
	}
	return token, nil
}
