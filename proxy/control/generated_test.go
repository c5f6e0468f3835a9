package control

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGeneratedDocs(t *testing.T) {
	for path, want := range map[string]string{"../../docs/openapi.json": string(OpenAPI()), "../../docs/api.md": Reference()} {
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
