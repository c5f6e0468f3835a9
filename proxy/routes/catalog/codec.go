package catalog

import (
	"encoding/json"
	"fmt"
	"strings"

	"aarch64.com/isthmus/proxy/routes/store"
)

// encode is only for the records of this package, which always have a JSON form.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return b
}

func decode(e store.Entry, prefix string, into any, name func() string) error {
	if err := json.Unmarshal(e.Value, into); err != nil {
		return fmt.Errorf("record %s: %w", e.Key, err)
	}
	if name() != strings.TrimPrefix(e.Key, prefix) {
		return fmt.Errorf("record %s: it is that of %q", e.Key, name())
	}
	return nil
}

func (m *Meta) from(e store.Entry) { m.Revision, m.Since = e.Modified, e.Created }

// DecodeProject reads the value of a key below [ProjectPrefix].
func DecodeProject(e store.Entry) (p Project, err error) {
	err = decode(e, ProjectPrefix, &p, func() string { return p.Name })
	p.from(e)
	return p, err
}

// DecodeProxy reads the value of a key below [ProxyPrefix].
func DecodeProxy(e store.Entry) (p Proxy, err error) {
	err = decode(e, ProxyPrefix, &p, func() string { return p.Host })
	p.from(e)
	return p, err
}

// DecodeToken reads the value of a key below [TokenPrefix].
func DecodeToken(e store.Entry) (t Token, err error) {
	err = decode(e, TokenPrefix, &t, func() string { return t.ID })
	t.from(e)
	return t, err
}

// DecodeTrust reads the value of a key below [TrustPrefix].
func DecodeTrust(e store.Entry) (t Trust, err error) {
	err = decode(e, TrustPrefix, &t, func() string { return t.Domain })
	t.from(e)
	return t, err
}

// DecodeHold reads the value of a key below [HoldPrefix].
func DecodeHold(e store.Entry) (h Hold, err error) {
	err = decode(e, HoldPrefix, &h, func() string { return h.Host })
	return h, err
}

// DecodeNode reads the value of a key below [NodePrefix].
func DecodeNode(e store.Entry) (n Node, err error) {
	err = decode(e, NodePrefix, &n, func() string { return n.Name })
	return n, err
}

// Encode is the value under which a node announces itself.
func (n Node) Encode() []byte { return encode(n) }

// DecodeAudit reads the value of a key below [AuditPrefix].
func DecodeAudit(e store.Entry) (a Audit, err error) {
	if err := json.Unmarshal(e.Value, &a); err != nil {
		return a, fmt.Errorf("record %s: %w", e.Key, err)
	}
	return a, nil
}

// count is what stands behind a key below countPrefix.
type count struct {
	Proxies int `json:"proxies"`
}
