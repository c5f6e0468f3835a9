package hosts_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"aarch64.com/isthmus/cmd/internal/hosts"
)

var (
	one = []string{"64:ff9b::8c52:7904 github.com"}
	two = []string{"64:ff9b::8c52:7904 github.com", "64:ff9b::8c52:7922 ghcr.io"}
)

const debian = "127.0.0.1\tlocalhost\n127.0.1.1\tvm\n\n# IPv6\n::1\tlocalhost ip6-localhost\nff02::1\tip6-allnodes\n"

func edit(t *testing.T, file string, lines ...string) string {
	t.Helper()
	b, err := hosts.Edit([]byte(file), lines, false)
	must(t, err)
	return string(b)
}

func TestBlock(t *testing.T) {
	want := debian + `# BEGIN isthmus hosts sha256:b4757f8fbb286272 (do not edit; see isthmus hosts --help)
64:ff9b::8c52:7904 github.com
# END isthmus hosts
`
	got := edit(t, debian, one...)
	if got != want {
		t.Errorf("got\n%s", got)
	}
	if again := edit(t, got, one...); again != got {
		t.Errorf("not idempotent:\n%s", again)
	}
	if other := edit(t, got, two...); other != edit(t, debian, two...) {
		t.Errorf("other lines:\n%s", other)
	}
	// What others write behind it stays behind it.
	behind := got + "192.0.2.1 backup\n"
	if got, want := edit(t, behind, two...), edit(t, debian, two...)+"192.0.2.1 backup\n"; got != want {
		t.Errorf("with a line behind:\n%s", got)
	}
	if got := edit(t, behind); got != debian+"192.0.2.1 backup\n" {
		t.Errorf("removed from the middle:\n%s", got)
	}
}

// remove(write(x)) == x, write is idempotent, and other lines stay.
func TestBlockProperties(t *testing.T) {
	for _, file := range []string{
		"", "\n", "x", "127.0.0.1 localhost", debian, debian + "\n\n", "a\r\nb\r\n", "a\r\nb", "\x00\xff\n",
		"# BEGIN isthmus hostsmen\n# END isthmus hostsmen\n", " # BEGIN isthmus hosts\n",
	} {
		checkProperties(t, []byte(file), two)
	}
}

func checkProperties(t *testing.T, file []byte, lines []string) {
	t.Helper()
	before := bytes.Clone(file)
	written, err := hosts.Edit(file, lines, false)
	if err != nil {
		t.Fatalf("%q: %v", file, err)
	}
	if !bytes.Equal(file, before) {
		t.Fatalf("%q was changed to %q", before, file)
	}
	again, err := hosts.Edit(written, lines, false)
	if err != nil || !bytes.Equal(again, written) {
		t.Fatalf("%q: writing again: %v\n%q\n%q", file, err, written, again)
	}
	removed, err := hosts.Edit(written, nil, false)
	if err != nil || !bytes.Equal(removed, file) {
		t.Fatalf("%q: removed: %v\n%q\n%q", file, err, written, removed)
	}
	if !bytes.HasPrefix(written, file) {
		t.Fatalf("%q: became %q", file, written)
	}
	for _, l := range lines {
		if !strings.Contains(string(written), "\n"+l+"\n") {
			t.Fatalf("%q: %q is not in %q", file, l, written)
		}
	}
}

func TestEditedBlock(t *testing.T) {
	sound := edit(t, debian, two...)
	for name, file := range map[string]string{
		"a line more":       strings.Replace(sound, "# END", "192.0.2.1 mine\n# END", 1),
		"a line less":       strings.Replace(sound, two[0]+"\n", "", 1),
		"an address":        strings.Replace(sound, "7922", "7923", 1),
		"the sum":           strings.Replace(sound, "sha256:", "sha256:0", 1),
		"the beginning":     strings.Replace(sound, "do not edit", "edited", 1),
		"CRLF":              strings.ReplaceAll(sound, "\n", "\r\n"),
		"no last line feed": strings.TrimSuffix(sound, "\n"),
	} {
		if _, err := hosts.Edit([]byte(file), one, false); !errors.Is(err, hosts.ErrEdited) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := hosts.Edit([]byte(file), nil, false); !errors.Is(err, hosts.ErrEdited) {
			t.Errorf("%s, removing: %v", name, err)
		}
		want := edit(t, debian, one...)
		if name == "CRLF" {
			want = edit(t, strings.ReplaceAll(debian, "\n", "\r\n"), one...)
		}
		if got, err := hosts.Edit([]byte(file), one, true); err != nil || string(got) != want {
			t.Errorf("%s, by force: %v\n%s", name, err, got)
		}
	}
}

// What cannot be told from other people's lines is left alone, also by force.
func TestDamagedBlock(t *testing.T) {
	sound := edit(t, debian, two...)
	begin := strings.Index(sound, "# BEGIN")
	for name, c := range map[string]struct{ file, want string }{
		"no end":            {strings.Replace(sound, "# END isthmus hosts\n", "", 1), "has no end"},
		"no beginning":      {debian + "# END isthmus hosts\n", "line 7: the end of a block"},
		"twice":             {sound + sound[begin:], "line 11: a second block"},
		"one in the other":  {strings.Replace(sound, two[0], sound[begin:], 1), "line 8: a second block"},
		"only a first line": {"# BEGIN isthmus hosts", "has no end"},
	} {
		for _, force := range []bool{false, true} {
			if _, err := hosts.Edit([]byte(c.file), one, force); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		}
	}
}

func TestEntries(t *testing.T) {
	list := hosts.Entries([]byte(edit(t, debian+"192.0.2.7 A.example b.example # c\nbad d.example\n# 192.0.2.8 e\nfe80::1%eth0 f\n", two...)))
	var got []string
	for _, e := range list {
		ours := ""
		if e.Ours {
			ours = "!"
		}
		got = append(got, ours+e.Addr.String()+"="+strings.Join(e.Names, ","))
	}
	want := "127.0.0.1=localhost 127.0.1.1=vm ::1=localhost,ip6-localhost ff02::1=ip6-allnodes 192.0.2.7=a.example,b.example fe80::1%eth0=f " +
		"!64:ff9b::8c52:7904=github.com !64:ff9b::8c52:7922=ghcr.io"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}

// Whatever the file is: an error, or all that holds for a sound one.
func FuzzBlock(f *testing.F) {
	f.Add([]byte(debian), "64:ff9b::1 a")
	b, err := hosts.Edit([]byte("127.0.0.1 localhost"), two, false)
	must(f, err)
	f.Add(b, "64:ff9b::1 a")
	f.Add(append(b, "x"...), "64:ff9b::1 a")
	f.Fuzz(func(t *testing.T, file []byte, line string) {
		if strings.ContainsAny(line, "\r\n#") || line == "" {
			return // no line of ours
		}
		hosts.Entries(file)
		lines := []string{line}
		bare, err := hosts.Edit(file, nil, true)
		if err != nil {
			if _, err := hosts.Edit(file, lines, true); err == nil {
				t.Error("a damaged block was written to")
			}
			return
		}
		if len(bare) > len(file) {
			t.Errorf("removing made it longer: %q, %q", file, bare)
		}
		checkProperties(t, bare, lines)
		if _, err := hosts.Edit(file, lines, true); err != nil {
			t.Errorf("force: %v", err)
		}
	})
}
