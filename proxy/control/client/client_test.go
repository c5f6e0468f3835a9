package client

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", "isth_x\n", 0o600)
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{URL: "https://a.example", TokenFile: good}, ""},
		{Options{URL: "https://a.example:8443/", Token: "x"}, ""},
		{Options{URL: "http://localhost:8443", Token: "x"}, ""},
		{Options{URL: "http://[::1]:8443", Token: "x"}, ""},
		{Options{URL: "unix:/x"}, ""},
		{Options{URL: "http://a.example", Token: "x"}, "clear text; write https://"},
		{Options{URL: "http://127.0.0.1.a.example", Token: "x"}, "clear text"},
		{Options{URL: "https://a.example"}, "wants a token"},
		{Options{URL: "a.example", Token: "x"}, "is no address of the API; write one such as"},
		{Options{URL: "https://a.example/api/v1", Token: "x"}, "is no address of the API"},
		{Options{URL: "https://me:secret@a.example", Token: "x"}, "is no address of the API"},
		{Options{URL: "ftp://a.example", Token: "x"}, "is no address of the API"},
		{Options{Token: "x"}, "is no address of the API"},
		{Options{URL: "https://a.example", TokenFile: dir + "/none"}, "no such file"},
		{Options{URL: "https://a.example", TokenFile: file("open", "x", 0o644)}, "others may read this token; run chmod 600"},
		{Options{URL: "https://a.example", TokenFile: file("two", "x y", 0o600)}, "not one token"},
		{Options{URL: "https://a.example", TokenFile: file("empty", "\n", 0o600)}, "not one token"},
		{Options{URL: "https://a.example", Token: "x", CAFile: good}, "no certificate in it; give a PEM file"},
		{Options{URL: "https://a.example", Token: "x", CAFile: dir + "/none"}, "no such file"},
	} {
		_, err := New(c.o)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}

// What is no API of isthmus is said to be none.
func TestOtherServers(t *testing.T) {
	var tokens []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.Header.Get("Authorization"))
		switch r.URL.Path {
		case "/api/v1/me":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case "/api/v1/nodes":
			w.Write([]byte("<html>"))
		default:
			http.Error(w, "no", http.StatusBadGateway)
		}
	}))
	defer other.Close()
	c, err := New(Options{URL: other.URL, Token: "x", Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, redirected := c.Me(ctx)
	_, html := c.Nodes(ctx)
	_, bad := c.Live(ctx, 1)
	for what, err := range map[string]error{"redirect": redirected, "page": html, "error": bad} {
		if err == nil || !strings.Contains(err.Error(), "is this isthmus's API?") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(tokens) != 3 {
		t.Errorf("the token went on: %q", tokens)
	}

	none, err := New(Options{URL: "unix:" + filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.Me(ctx); err == nil || !strings.Contains(err.Error(), "no isthmus runs behind") {
		t.Errorf("got %v", err)
	}
}
