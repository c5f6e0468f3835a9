// Command gendocs writes the files that are made from code: the configuration
// reference, as a page and as a file to start from, the metrics reference, and that
// of the API.
// "make generate" runs it, and tests fail when what it would write is not what
// is there.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/metrics"
	"aarch64.com/isthmus/proxy/control"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gendocs ROOT-OF-THE-REPOSITORY")
		os.Exit(2)
	}
	for path, content := range map[string]string{
		"deploy/isthmus.toml": config.ReferenceTOML(),
		"docs/config.md":      config.ReferenceMarkdown(),
		"docs/metrics.md":     metrics.Reference(),
		"docs/api.md":         control.Reference(),
		"docs/openapi.json":   string(control.OpenAPI()),
	} {
		if err := os.WriteFile(filepath.Join(os.Args[1], path), []byte(content), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
