package config

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The files that people read are what the code says.
func TestReferenceFiles(t *testing.T) {
	for path, want := range map[string]string{
		"../../../deploy/isthmus.toml": ReferenceTOML(),
		"../../../docs/config.md":      ReferenceMarkdown(),
	} {
		got, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s is out of date; run make generate (-want +got):\n%s", path, diff)
		}
	}
}

// As it stands, deploy/isthmus.toml changes nothing; with the comment signs
// taken away, it still is a right file that says the defaults.
func TestReferenceTOMLIsTheDefaults(t *testing.T) {
	doc := ReferenceTOML()
	got, err := Parse("commented", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got, byPrefix); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	var lines []string
	for _, l := range strings.Split(doc, "\n") {
		if strings.HasPrefix(l, "#") && !strings.HasPrefix(l, "# ") {
			l = l[1:]
		}
		lines = append(lines, l)
	}
	got, err = Parse("uncommented", []byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Router.Ports = []Port{{Interface: "enp1s0", ZeroCopy: ZeroCopyAuto, Attach: AttachAuto, Checksum: ChecksumTrust}}
	if diff := cmp.Diff(want, got, byPrefix); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
