package access

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func file(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func publicKey(t *testing.T) (ssh.PublicKey, string) {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return k, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

func TestKeys(t *testing.T) {
	alice, aliceLine := publicKey(t)
	bob, bobLine := publicKey(t)
	stranger, _ := publicKey(t)
	keys, err := LoadKeys(file(t, "# ours\n\n"+aliceLine+" alice@example.com\r\nrestrict,port-forwarding "+bobLine+"\n", 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		key ssh.PublicKey
		who string
		ok  bool
	}{{alice, "alice@example.com", true}, {bob, ssh.FingerprintSHA256(bob), true}, {stranger, "", false}} {
		if who, ok := keys.Known(tt.key); who != tt.who || ok != tt.ok {
			t.Errorf("got %q, %v, want %q, %v", who, ok, tt.who, tt.ok)
		}
	}
}

func TestKeysRefused(t *testing.T) {
	_, line := publicKey(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ssh.NewPublicKey(&weak.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"garbage", "\n# x\ngarbage\n", 0o644, ":3: no public key"},
		{"a source", `from="192.0.2.1" ` + line, 0o644, `:1: option "from=\"192.0.2.1\"" does not hold here`},
		{"an end", `expiry-time="20300101" ` + line, 0o644, "does not hold here"},
		{"an authority", "cert-authority " + line, 0o644, `option "cert-authority" does not hold here`},
		{"twice", line + "\n" + line, 0o644, ":2: the key SHA256:"},
		{"weak", string(ssh.MarshalAuthorizedKey(k)), 0o644, "RSA with 1024 bits"},
		{"open to all", line, 0o666, "mode 0666, with which others can let themselves in"},
	} {
		if _, err := LoadKeys(file(t, tt.content, tt.mode)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
	if _, err := LoadKeys("/nosuch"); err == nil || !strings.Contains(err.Error(), "/nosuch: no such file") {
		t.Error(err)
	}
}

func TestTokens(t *testing.T) {
	a, lineA := NewToken("project-a")
	b, lineB := NewToken("project-b")
	if a == b {
		t.Fatal("the same token twice")
	}
	tokens, err := LoadTokens(file(t, "# tokens\n"+lineA+"\n"+strings.ToUpper(lineB)+"\n", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		secret, who string
		ok          bool
	}{{a, "project-a", true}, {b, "PROJECT-B", true}, {"", "", false}, {a + "x", "", false}, {lineA, "", false}} {
		if who, ok := tokens.Known([]byte(tt.secret)); who != tt.who || ok != tt.ok {
			t.Errorf("%q: got %q, %v", tt.secret, who, ok)
		}
	}
	for content, want := range map[string]string{
		"alone\n":                      ":1: write a name, a space",
		"a b c\n":                      ":1: write a name, a space",
		"a abc\n":                      `no SHA-256 after "a"`,
		lineA + "00\n":                 `no SHA-256 after "project-a"`,
		"a " + strings.Repeat("z", 64): `no SHA-256 after "a"`,
		"a e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": `the token of "a" is empty`,
	} {
		if _, err := LoadTokens(file(t, content, 0o600)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", content, err, want)
		}
	}
}
