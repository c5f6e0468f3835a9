package hosts

import (
	"bufio"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxLine     = 64 << 10 // bytes of a line that are looked at
	maxLogNames = 500      // names of one log; more are no log of one host's troubles
)

// places are where a name in a line of text is one without doubt. Words with
// dots alone are not: they are files, classes, versions. Most lines of a log have
// none of the hints, which are cheaper to look for.
var places = []struct {
	hints []string // in lower case; one of them is in every match
	name  *regexp.Regexp
}{
	// https://user@host/path. What follows the name is looked at by endsHere.
	{[]string{"://"}, regexp.MustCompile(`(?i)\b(?:https?|wss?|git|ssh|ftps?)://(?:[^\s/@"'<>]*@)?([a-z0-9_.*-]+)`)},
	// host:443 and (host:443), as .NET, Go and wget write it.
	{[]string{":443", ":80"}, regexp.MustCompile(`(?i)(?:^|[\s("'=\[,])([a-z0-9_.-]+):(?:443|80)(?:[\s)"',;.\]/:]|$)`)},
	// The words of common resolvers and clients before the name.
	{[]string{"resolv", "connect", "getaddrinfo", "enotfound", "eai_again", "unknownhost"}, regexp.MustCompile(`(?i)(?:could not resolve(?: host| proxy)?:?|couldn't resolve host|cannot resolve(?: host)?|unable to resolve host(?: address)?|failed to resolve|temporary failure resolving|failed to connect to|couldn't connect to|could not connect to|unable to connect to|connect to host|getaddrinfo(?: \w+)?|enotfound|eai_again|unknownhostexception:) ?[("'‘“\x60]*([a-z0-9_.*-]+)`)},
	// Go: "lookup NAME on SERVER: no such host".
	{[]string{"lookup "}, regexp.MustCompile(`\blookup ([A-Za-z0-9_.-]+)(?: on \S+)?: `)},
}

var (
	// ECMA-48, as programs write for terminals.
	colors = regexp.MustCompile("\x1b\\[[0-9;]*m")
	// A line that tells of a failure; its names come first.
	failure = regexp.MustCompile(`(?i)unreachable|refused|timed? ?out|could ?n[o']t|cannot|unable|fail|error|no such host|not known|no route|enotfound|eai_|unknownhost|enetunreach|econn|etimedout|reset by peer`)
)

// ScanLog finds host names in a log: those of lines that tell of a failed
// connection, then all others, each once and in their order. It takes only what
// is surely meant as a host: part of a URL, before a port of HTTP, or behind the
// words that say that a connection or a lookup failed. What it does not know is
// not a name.
func ScanLog(in io.Reader) (failed, others []string, err error) {
	r := bufio.NewReaderSize(in, maxLine)
	seen := map[string]*bool{} // whether of a failure
	var order []string
	for {
		line, err := r.ReadSlice('\n')
		scanLine(string(line), func(name string, isFailure bool) {
			switch was, ok := seen[name]; {
			case ok && isFailure:
				*was = true
			case !ok && len(order) < maxLogNames:
				seen[name] = &isFailure
				order = append(order, name)
			}
		})
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of a long line
			_, err = r.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, err
		}
		if err != nil {
			break
		}
	}
	for _, name := range order {
		if *seen[name] {
			failed = append(failed, name)
		} else {
			others = append(others, name)
		}
	}
	return failed, others, nil
}

func scanLine(line string, found func(name string, isFailure bool)) {
	if strings.ContainsRune(line, '\x1b') {
		line = colors.ReplaceAllString(line, " ")
	}
	low := strings.ToLower(line)
	type match struct {
		at   int
		name string
	}
	var all []match
	for _, p := range places {
		if !slices.ContainsFunc(p.hints, func(hint string) bool { return strings.Contains(low, hint) }) {
			continue
		}
		for _, m := range p.name.FindAllStringSubmatchIndex(line, -1) {
			if name, ok := logName(line[m[2]:m[3]]); ok && endsHere(line[m[3]:]) {
				all = append(all, match{m[2], name})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b match) int { return a.at - b.at })
	isFailure := len(all) > 0 && failure.MatchString(line)
	for _, m := range all {
		found(m.name, isFailure)
	}
}

// endsHere tells whether a name can end before the rest of its line. A secret
// that was masked, a template or a name in another script would go on.
func endsHere(rest string) bool {
	r, _ := utf8.DecodeRuneInString(rest)
	return rest == "" || strings.ContainsRune(" \t\r\n/:?#\"'`’”)]>,;|\\<", r)
}

// notPublic are the ends of names that no NAT64 leads to (RFC 6761, RFC 6762,
// RFC 8375, RFC 7686, RFC 9476).
var notPublic = []string{"localhost", "local", "internal", "lan", "home", "corp", "arpa", "invalid", "onion", "alt"}

// logName checks what stands where a name should: one with a dot in it and a top
// level that can be one.
func logName(s string) (string, bool) {
	name, err := ParseName(strings.TrimRight(s, "."))
	if err != nil || strings.HasPrefix(name, "*") {
		return "", false
	}
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return "", false
	}
	top := name[dot+1:]
	if len(top) < 2 || slices.Contains(notPublic, top) {
		return "", false
	}
	if !strings.HasPrefix(top, "xn--") && strings.Trim(top, "abcdefghijklmnopqrstuvwxyz") != "" {
		return "", false
	}
	return name, true
}
