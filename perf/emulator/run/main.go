// Command run boots the machines of package emulator and prints a table of what
// ran on them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"aarch64.com/isthmus/perf/emulator"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	only := flag.String("only", "", "names of machines, with commas between; all if empty")
	packages := flag.String("packages", "", "packages whose tests run, with commas between, instead of each machine's own")
	full := flag.Bool("full", false, "run the tests of all packages on each machine, which takes hours")
	parallel := flag.Int("parallel", 2, "how many machines run at the same time")
	verbose := flag.Bool("v", false, "tell of each job when it ends")
	flag.Parse()
	cache, err := os.UserCacheDir()
	if err == nil {
		err = emulator.Run(ctx, emulator.Options{
			Root: ".", Cache: filepath.Join(cache, "isthmus", "emulator"), Only: list(*only), Packages: list(*packages),
			Full: *full, Parallel: *parallel, Verbose: *verbose, Out: os.Stdout,
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "emulator:", err)
		os.Exit(1)
	}
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}
