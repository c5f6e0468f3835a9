package hosts

import (
	"fmt"
	"slices"
	"strings"
)

// Origin says how a name came to be asked for.
type Origin string

const (
	OfArgument Origin = "argument"
	OfPreset   Origin = "preset"
	OfLog      Origin = "log"
)

// Name is a host name in lower case, without the last dot. A wildcard begins
// with "*.".
type Name struct {
	Name   string
	Origin Origin
}

// IsWildcard tells names that no line of /etc/hosts can stand for.
func (n Name) IsWildcard() bool { return strings.HasPrefix(n.Name, "*.") }

// ParseName checks a name and brings it into its one form.
func ParseName(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	host := strings.TrimPrefix(name, "*.")
	for _, r := range host {
		if r >= 0x80 {
			return "", fmt.Errorf("%q is not written as the DNS has it; write its labels as xn--", s)
		}
	}
	if !isHostName(host) {
		return "", fmt.Errorf("%q is no host name", s)
	}
	return name, nil
}

// isHostName is RFC 1123 section 2.1 for lower case, with the underscores that
// some hosts have.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	// An address is no name.
	last := s[strings.LastIndexByte(s, '.')+1:]
	return strings.Trim(last, "0123456789") != ""
}

// Preset is a list of names that one kind of software needs.
type Preset struct {
	Name  string   `json:"name"`
	About string   `json:"about"`
	Names []string `json:"names"`
}

// Presets are all there are. A name that has an IPv6 address of its own by now
// does no harm here: it is left out when it is looked up.
var Presets = []Preset{{
	Name:  "github-runner",
	About: "a self-hosted runner of GitHub Actions",
	// GitHub's documentation, "Self-hosted runners reference", "Accessible
	// domains by function"; the hosts of actions.githubusercontent.com besides
	// are those that runners have been seen to use.
	Names: []string{
		"api.github.com", "github.com", "codeload.github.com", "ghcr.io",
		"uploads.github.com", "pkg-containers.githubusercontent.com",
		"pipelines.actions.githubusercontent.com", "broker.actions.githubusercontent.com",
		"vstoken.actions.githubusercontent.com", "token.actions.githubusercontent.com",
		"pkg.actions.githubusercontent.com", "results-receiver.actions.githubusercontent.com",
		"objects.githubusercontent.com", "objects-origin.githubusercontent.com",
		"release-assets.githubusercontent.com", "github-releases.githubusercontent.com",
		"github-registry-files.githubusercontent.com", "github-cloud.githubusercontent.com",
		"*.actions.githubusercontent.com", "*.blob.core.windows.net", "*.pkg.github.com",
	},
}}

// FindPreset gives the preset of a name.
func FindPreset(name string) (Preset, error) {
	i := slices.IndexFunc(Presets, func(p Preset) bool { return p.Name == name })
	if i < 0 {
		var known []string
		for _, p := range Presets {
			known = append(known, p.Name)
		}
		return Preset{}, fmt.Errorf("there is no preset %q; there is %s", name, strings.Join(known, ", "))
	}
	return Presets[i], nil
}

// AddNames appends those that are not yet in the list.
func AddNames(list []Name, origin Origin, names ...string) []Name {
	for _, n := range names {
		if !slices.ContainsFunc(list, func(have Name) bool { return have.Name == n }) {
			list = append(list, Name{n, origin})
		}
	}
	return list
}
