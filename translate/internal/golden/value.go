package golden

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"aarch64.com/isthmus/translate"
)

// stringsOf reads "a" or ["a", "b"].
func stringsOf(v string) ([]string, error) {
	inner, list := strings.CutPrefix(v, "[")
	if list {
		var ok bool
		if inner, ok = strings.CutSuffix(inner, "]"); !ok {
			return nil, fmt.Errorf("%s has no closing bracket", v)
		}
	}
	var out []string
	for part := range strings.SplitSeq(inner, ",") {
		if part = strings.TrimSpace(part); part == "" && list {
			continue
		}
		s, err := strconv.Unquote(part)
		if err != nil {
			return nil, fmt.Errorf("%s is no string in quotes", part)
		}
		out = append(out, s)
	}
	return out, nil
}

func prefixes(v string) ([]netip.Prefix, error) {
	list, err := stringsOf(v)
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func addresses(v string) ([]netip.Addr, error) {
	list, err := stringsOf(v)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// mappings reads [{ ipv6 = "P", ipv4 = "P" }, ...].
func mappings(v string) ([]translate.EAM, error) {
	var out []translate.EAM
	rest := strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(v, "["), "]"))
	for rest != "" {
		entry, behind, ok := strings.Cut(rest, "}")
		entry, open := strings.CutPrefix(strings.TrimSpace(entry), "{")
		if !ok || !open {
			return nil, fmt.Errorf("%s is no list of { ipv6 = \"...\", ipv4 = \"...\" }", v)
		}
		var e translate.EAM
		for field := range strings.SplitSeq(entry, ",") {
			key, value, _ := strings.Cut(field, "=")
			p, err := prefixes(strings.TrimSpace(value))
			if err != nil || len(p) != 1 {
				return nil, fmt.Errorf("%s: %s is no prefix", v, value)
			}
			switch strings.TrimSpace(key) {
			case "ipv6":
				e.IPv6 = p[0]
			case "ipv4":
				e.IPv4 = p[0]
			default:
				return nil, fmt.Errorf("%s: unknown key %s", v, key)
			}
		}
		out = append(out, e)
		rest = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(behind), ","))
	}
	return out, nil
}

// oneOf reads one of some words.
func oneOf[T any](v string, words map[string]T) (T, error) {
	s, err := strconv.Unquote(v)
	if x, ok := words[s]; ok && err == nil {
		return x, nil
	}
	var none T
	return none, fmt.Errorf("%s is none of the allowed words", v)
}
