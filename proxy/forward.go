package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strings"
	"time"

	"aarch64.com/isthmus/proxy/http1"
)

// roundTripper sends a request over the connections of its client connection.
type roundTripper struct{}

// RoundTrip implements [http.RoundTripper].
func (roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	return x.conn.backends.get(x.conn).RoundTrip(r)
}

// rewrite makes the request for the VM. The ReverseProxy has removed what is of
// one connection only.
func rewrite(p *httputil.ProxyRequest) {
	x := p.In.Context().Value(exchangeKey{}).(*exchange)
	out := p.Out
	out.URL.Scheme = "http"
	out.URL.Host = p.In.Context().Value(targetKey{}).(*target).name()
	out.Host = p.In.Host
	untouched(out, p.In.RequestURI)
	removeSpoofed(out.Header)
	client := x.conn.client.Addr()
	out.Header.Set("X-Forwarded-For", client.String())
	out.Header.Set("X-Forwarded-Proto", "http")
	out.Header.Set("X-Forwarded-Host", p.In.Host)
	out.Header.Set("Forwarded", forwarded(client, p.In.Host))
	addVia(out.Header, p.In.ProtoMajor, p.In.ProtoMinor, x.config.pseudonym)
	// The values come with the end of the body, into the map of the request that
	// came in.
	out.Trailer = p.In.Trailer
	if x.upgrade {
		out.Header.Set("Upgrade", http1.Upgrade(strings.Join(p.In.Header["Upgrade"], ", ")))
	} else {
		out.Header.Del("Upgrade")
		out.Header.Del("Connection")
	}
}

// untouched has the VM see the target as the client wrote it, where net/url would
// write it in another way.
func untouched(out *http.Request, target string) {
	if len(target) > 0 && target[0] != '/' && target[0] != '*' {
		_, rest, _ := strings.Cut(target, "://")
		end := strings.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		target = rest[end:]
	}
	if !strings.HasPrefix(target, "/") && target != "*" {
		target = "/" + target
	}
	path, query, asked := strings.Cut(target, "?")
	out.URL.RawQuery, out.URL.ForceQuery = query, asked
	if !strings.HasPrefix(path, "//") { // as Opaque it would mean a host
		out.URL.Opaque = path
	}
}

// forwarded is the value of a Forwarded field (RFC 7239 section 4).
func forwarded(client netip.Addr, host string) string {
	node := client.String()
	if client.Is6() {
		node = `"[` + node + `]"`
	}
	if strings.Contains(host, ":") {
		host = `"` + host + `"`
	}
	return "for=" + node + ";host=" + host + ";proto=http"
}

// spoofed are fields, in the form that programs see that take "_" for "-" (CGI,
// RFC 3875 section 4.1.18), that servers believe to come from a proxy, besides
// those that begin with X_FORWARDED.
var spoofed = map[string]bool{
	"FORWARDED": true, "X_REAL_IP": true, "X_CLIENT_IP": true, "CLIENT_IP": true, "X_CLUSTER_CLIENT_IP": true,
	"X_ORIGINATING_IP": true, "X_REMOTE_IP": true, "X_REMOTE_ADDR": true, "X_URL_SCHEME": true, "FRONT_END_HTTPS": true,
	"X_ORIGINAL_HOST": true, "X_HOST": true, "PROXY": true, // httpoxy, CVE-2016-5385
}

// framing are fields that only the proxy itself writes. With "_" they are nobody's.
var framing = map[string]bool{"CONTENT_LENGTH": true, "TRANSFER_ENCODING": true, "HOST": true, "CONNECTION": true, "UPGRADE": true}

var underscores = strings.NewReplacer("-", "_")

// removeSpoofed removes what only a proxy may say.
func removeSpoofed(h http.Header) {
	for name := range h {
		common := strings.ToUpper(underscores.Replace(name))
		if strings.HasPrefix(common, "X_FORWARDED") || spoofed[common] || framing[common] && strings.Contains(name, "_") {
			delete(h, name)
		}
	}
}

// maxHops is how many proxies a request may have passed.
const maxHops = 20

// loop tells whether a request has been here before (RFC 9110 section 7.6.3),
// under whatever name.
func (s *Server) loop(via []string) (why string) {
	hops := 0
	for _, v := range via {
		for hop := range strings.SplitSeq(v, ",") {
			hops++
			if fields := strings.Fields(hop); len(fields) > 1 && strings.HasSuffix(strings.ToLower(fields[1]), "-"+s.unique) {
				return "it has been here before"
			}
		}
	}
	if hops > maxHops {
		return "too many proxies"
	}
	return ""
}

func addVia(h http.Header, major, minor int, name string) {
	version := "1.1"
	switch {
	case major == 2:
		version = "2.0"
	case minor == 0:
		version = "1.0"
	}
	h.Add("Via", version+" "+name)
}

// answered looks at a VM's answer before it goes to the client.
func answered(r *http.Response) error {
	x := r.Request.Context().Value(exchangeKey{}).(*exchange)
	x.record.First = time.Since(x.record.Start)
	x.progress()
	if r.StatusCode < 200 && r.StatusCode != http.StatusSwitchingProtocols || r.StatusCode > 999 {
		return errRefused
	}
	addVia(r.Header, r.ProtoMajor, r.ProtoMinor, x.config.pseudonym)
	if r.StatusCode == http.StatusSwitchingProtocols {
		return x.switched(r)
	}
	if x.upgrade {
		x.conn.decide(nextRequest)
	}
	r.Body = &responseBody{r.Body, x}
	return nil
}

// failed answers when the VM does not.
func failed(_ http.ResponseWriter, r *http.Request, err error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	if x.headers.Load() {
		return
	}
	var dial *dialError
	switch f := x.failure.Load(); {
	case f != nil && f.result == BadRequest:
		x.page(http.StatusBadRequest)
	case f != nil && f.result == SlowUser:
		x.page(http.StatusRequestTimeout)
	case f != nil && f.result == Idle:
		x.page(http.StatusGatewayTimeout)
	case x.web.stopped.Err() != nil:
		x.fail(Stopped, "")
		panic(http.ErrAbortHandler)
	case errors.Is(r.Context().Err(), context.Canceled):
		x.fail(BrokenByUser, "before an answer")
		panic(http.ErrAbortHandler)
	case errors.As(err, &dial):
		x.record.Backend = dial.last
		x.unreachable(dial)
	case isTimeout(err):
		x.fail(SlowBackend, "")
		x.page(http.StatusGatewayTimeout)
	default:
		x.fail(BrokenByVM, err.Error())
		x.page(http.StatusBadGateway)
	}
}

func (x *exchange) unreachable(e *dialError) {
	switch {
	case e.forbidden:
		x.fail(Forbidden, e.Error())
		x.page(http.StatusBadGateway)
	case e.slow:
		x.fail(Unreachable, e.Error())
		x.page(http.StatusGatewayTimeout)
	default:
		x.fail(Unreachable, e.Error())
		x.page(http.StatusBadGateway)
	}
}
