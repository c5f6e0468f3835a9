package bolt

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/proxy/routes/store"
)

// crashFile names the variable with the file that a child process is to write.
const crashFile = "ISTHMUS_TEST_CRASH_FILE"

// TestMain is also the program that TestCrash kills: it commits without end and
// says what has been acknowledged.
func TestMain(m *testing.M) {
	path := os.Getenv(crashFile)
	if path == "" {
		os.Exit(m.Run())
	}
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	s, err := Open(ctx, path, Options{Wait: time.Minute, History: 50})
	fail(err)
	a, err := s.Announce(ctx, "node/a")
	fail(err)
	fail(a.Set(ctx, nil))
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				txn := put("left/"+key, strings.Repeat(key, 1+i%100))
				txn.Put = append(txn.Put, store.Put{Key: "right/" + key, Value: txn.Put[0].Value})
				if i > 0 {
					txn.Delete = []string{fmt.Sprintf("last/%d", w)}
				}
				_, err := s.Commit(ctx, txn)
				fail(err)
				os.Stdout.WriteString(key + "\n") // one write(2) is whole
			}
		})
	}
	all.Wait()
}

// TestCrash kills a process in the midst of commits, again and again: what was
// acknowledged is there, and nothing is there by half.
func TestCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.db")
	acked := map[string]bool{}
	for round := range 6 {
		child := labtest.Self()
		child.Env = append(os.Environ(), crashFile+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		t.Cleanup(func() { _ = child.Process.Kill() }) // if we fail before
		lines := bufio.NewScanner(out)
		before := len(acked)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "error:") {
				t.Fatal(lines.Text())
			}
			acked[lines.Text()] = true
			// Not always at the same point; the pipe has more, which count, too.
			if len(acked) == before+50+37*round {
				must(t, child.Process.Kill())
			}
		}
		_ = child.Wait()
		s := open(t, path, Options{Wait: time.Minute})
		sides := map[string]map[string]string{"left": {}, "right": {}}
		_, err = s.List(t.Context(), "", func(e store.Entry) error {
			side, key, _ := strings.Cut(e.Key, "/")
			if sides[side] == nil {
				t.Errorf("%s is there", e.Key)
				return nil
			}
			sides[side][key] = string(e.Value)
			return nil
		})
		must(t, err)
		for key := range acked {
			if sides["left"][key] == "" {
				t.Fatalf("round %d: %s was acknowledged, and is lost", round, key)
			}
		}
		for key, value := range sides["left"] {
			if sides["right"][key] != value {
				t.Fatalf("round %d: half of %s is there", round, key)
			}
		}
		if len(sides["left"]) != len(sides["right"]) {
			t.Errorf("round %d: %d on the left, %d on the right", round, len(sides["left"]), len(sides["right"]))
		}
		must(t, s.Close())
	}
	t.Logf("%d commits acknowledged", len(acked))
}
