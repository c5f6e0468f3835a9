package dynamic

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The state file is text: a line that says what it is, the sum of all that
// follows, and a JSON object per mapping. The sum tells a torn or edited file.
const (
	magic    = "isthmus dynamic map 1"
	maxState = 256 << 20 // more than a pool of /8 can fill in practice
)

// errForeign: not a whole state file of ours.
var errForeign = errors.New("it is damaged or not a state file of isthmus")

func encode(entries []Entry) []byte {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	for i := range entries {
		// An Entry has no value that JSON can't hold.
		_ = e.Encode(entries[i])
	}
	sum := sha256.Sum256(body.Bytes())
	return append([]byte(magic+"\nsha256 "+hex.EncodeToString(sum[:])+"\n"), body.Bytes()...)
}

func decode(data []byte) ([]Entry, error) {
	head, rest, ok := strings.Cut(string(data), "\n")
	if !ok || head != magic {
		return nil, errForeign
	}
	sumLine, body, ok := strings.Cut(rest, "\n")
	sum := sha256.Sum256([]byte(body))
	if !ok || sumLine != "sha256 "+hex.EncodeToString(sum[:]) {
		return nil, errForeign
	}
	var entries []Entry
	d := json.NewDecoder(strings.NewReader(body))
	for d.More() {
		var e Entry
		if err := d.Decode(&e); err != nil {
			return nil, fmt.Errorf("%w: %w", errForeign, err)
		}
		if !e.IPv6.Is6() || e.IPv6.Is4In6() || !e.IPv4.Is4() {
			return nil, errForeign
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// load reads a state file. One that makes no sense is renamed, not deleted, and
// problem says so.
func load(path string) (entries []Entry, problem, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("state file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxState {
		return nil, nil, fmt.Errorf("state file %s: not a regular file of at most %d bytes; move it away or choose another state_dir", path, maxState)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("state file: %w", err)
	}
	if entries, err = decode(data); err == nil {
		return entries, nil, nil
	}
	aside := fmt.Sprintf("%s.%s", path, time.Now().UTC().Format("20060102T150405.000"))
	if e := os.Rename(path, aside); e != nil {
		return nil, nil, fmt.Errorf("state file %s: %w, and it can't be set aside: %w", path, err, e)
	}
	return nil, fmt.Errorf("state file %s: %w; it is kept as %s, and all hosts get addresses anew", path, err, aside), nil
}

// save writes the state so that a crash leaves the old file or the new one.
func save(path string, entries []Entry) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("state file: %w", err)
		}
	}()
	if _, err = f.Write(encode(entries)); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// settle is how long changes are collected before they are written.
const settle = 100 * time.Millisecond

// Keep writes the state file after each change until ctx ends, and once more
// then. Problems go to report; the next change tries again.
func (m *Map) Keep(ctx context.Context, report func(error)) {
	if m.config.StateFile == "" {
		<-ctx.Done()
		return
	}
	write := func() {
		if err := save(m.config.StateFile, m.List()); err != nil {
			report(err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			write()
			return
		case <-m.changed:
		}
		select {
		case <-ctx.Done():
		case <-time.After(settle):
		}
		write()
	}
}
