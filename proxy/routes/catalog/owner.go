package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Who may have a host name:
//
// One project at a time has a name; until it has proven it, that is no more than a
// claim of who came first. Another project gets the name only if the DNS shows its
// challenge and not the first one's, or if an operator trusts it with the domain and
// the first one is not served. Against a wildcard over the name, or a hold, its own
// challenge in the DNS or an operator's trust is enough. Nothing but an operator wins
// against an operator's word.
//
// A wildcard may be added over other projects' names: it takes the parent's proof,
// and an exact name that is served goes before it, whoever has which.

// TXT is where the record has to stand that proves a host name, which for a
// wildcard is at its parent.
func TXT(host string) string { return "_isthmus-challenge." + domainOf(host) }

var textEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func base32Text(b []byte) string { return textEncoding.EncodeToString(b) }

// Challenge is what the TXT record has to say for this project to have a host name.
// It stays the same when a name is deleted and added again, and no other project
// of this cloud or another one ever has the same. It is no secret.
func (p *Project) Challenge(host string) string {
	sum := sha256.Sum256([]byte("isthmus\x00" + p.ID + "\x00" + host))
	return base32Text(sum[:16])
}

// survey is what bears on whether a project may have a host name, as it is read in
// one go.
type survey struct {
	got       map[string]store.Entry
	trustKeys []string

	project Project
	holder  *Proxy // who has the name
	over    *Proxy // the wildcard over it
	hold    *Hold
	trusted bool // the project is, with the name
	at      time.Time
}

func (c *Catalog) survey(ctx context.Context, project, host string) (*survey, error) {
	s := &survey{at: c.o.Now()}
	keys := []string{projectKey(project), countKey(project), proxyKey(host), holdKey(host)}
	for _, d := range domainsOver(domainOf(host)) {
		s.trustKeys = append(s.trustKeys, trustKey(d))
	}
	keys = append(keys, s.trustKeys...)
	w := wildcardOver(host)
	if w != "" {
		keys = append(keys, proxyKey(w))
	}
	var err error
	if s.got, _, err = c.store.Get(ctx, keys...); err != nil {
		return nil, err
	}
	e, ok := s.got[projectKey(project)]
	if !ok {
		return nil, notFound(projectKey(project))
	}
	if s.project, err = DecodeProject(e); err != nil {
		return nil, err
	}
	if s.holder, err = maybe(s.got, proxyKey(host), DecodeProxy); err != nil {
		return nil, err
	}
	if s.over, err = maybe(s.got, proxyKey(w), DecodeProxy); err != nil {
		return nil, err
	}
	if s.hold, err = maybe(s.got, holdKey(host), DecodeHold); err != nil {
		return nil, err
	}
	// The domain nearest to the name decides.
	for _, k := range s.trustKeys {
		t, err := maybe(s.got, k, DecodeTrust)
		if err != nil {
			return nil, err
		}
		if t != nil {
			s.trusted = t.ProjectID == s.project.ID
			break
		}
	}
	return s, nil
}

func maybe[T any](got map[string]store.Entry, key string, decode func(store.Entry) (T, error)) (*T, error) {
	e, ok := got[key]
	if !ok {
		return nil, nil
	}
	v, err := decode(e)
	return &v, err
}

// own is the project's proxy of the name, if it has one.
func (s *survey) own() *Proxy {
	if s.holder != nil && s.holder.Project == s.project.Name {
		return s.holder
	}
	return nil
}

// trustAsIs is the condition that nobody has changed what is trusted.
func (s *survey) trustAsIs() (list []store.Condition) {
	for _, k := range s.trustKeys {
		list = append(list, had(s.got, k))
	}
	return list
}

// permit tells whether the project may take a name that it does not have, with
// proven if that takes a proof in the DNS, which there is.
func (s *survey) permit(p *Proxy, look looker) (proven bool, err error) {
	if e := checkProvable(p.Host); e != nil && !s.trusted {
		return false, Invalids{e}
	}
	name := s.project.Name
	others := s.holder != nil && s.holder.Project != name
	switch {
	case others && s.holder.Proof == Trusted:
		return false, fmt.Errorf("%s: %w", p.Host, ErrTaken)
	case s.trusted && !(others && s.holder.Proof.Serves()):
		return false, nil
	case others:
		return true, s.appeal(p, look, s.holder.Challenge)
	case s.hold != nil && s.hold.Project != name && s.hold.Until.After(s.at),
		s.over != nil && s.over.Project != name:
		return true, s.appeal(p, look, "")
	}
	return false, nil
}

// looker gives the TXT records for the name that a change is about.
type looker func() (texts []string, err error)

// lookOnce is a looker that asks once, however often a change is tried; nil if
// there is nobody to ask.
func (c *Catalog) lookOnce(ctx context.Context, host string) looker {
	if c.o.Look == nil {
		return nil
	}
	var done bool
	var texts []string
	var err error
	return func() ([]string, error) {
		if !done {
			texts, err = c.o.Look(ctx, host)
			done = true
		}
		return texts, err
	}
}

// appeal is nil if the DNS shows the project's challenge, and not the other one.
func (s *survey) appeal(p *Proxy, look looker, other string) error {
	taken := &Taken{Host: p.Host, Challenge: p.Challenge}
	if look == nil {
		return taken
	}
	texts, err := look()
	switch {
	case err != nil:
		return fmt.Errorf("%w (looked there, and failed: %w)", taken, err)
	case !slices.Contains(texts, p.Challenge), other != "" && slices.Contains(texts, other):
		return taken
	}
	return nil
}

// Covers tells whether a trusted domain has a host name in it.
func (t *Trust) Covers(host string) bool { return within(strings.ToLower(domainOf(host)), t.Domain) }
