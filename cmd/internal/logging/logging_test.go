package logging

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
)

func TestNewOnAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log := New(f, zerolog.WarnLevel)
	log.Info().Msg("not severe enough")
	log.Warn().Str("port", "enp1s0").Msg("told")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var line map[string]string
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if line["level"] != "warn" || line["message"] != "told" || line["port"] != "enp1s0" || line["time"] == "" {
		t.Errorf("got %v", line)
	}
}

func TestParseLevel(t *testing.T) {
	for _, s := range Levels {
		if l, err := ParseLevel(s); err != nil || l.String() != s {
			t.Errorf("%s: %v, %v", s, l, err)
		}
	}
	for _, s := range []string{"", "loud", "panic", "Info"} {
		if _, err := ParseLevel(s); err == nil {
			t.Errorf("%q is a level", s)
		}
	}
}
