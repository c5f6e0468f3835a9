package version

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestRead(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef01234567"
	build := func(version string, settings ...string) *debug.BuildInfo {
		b := &debug.BuildInfo{Main: debug.Module{Version: version}}
		for i := 0; i < len(settings); i += 2 {
			b.Settings = append(b.Settings, debug.BuildSetting{Key: settings[i], Value: settings[i+1]})
		}
		return b
	}
	tail := runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH + ")"
	for _, tt := range []struct {
		name  string
		tag   string
		build *debug.BuildInfo
		want  string
	}{
		{"nothing known", "", nil, "isthmus devel (" + tail},
		{"go test", "", build("(devel)"), "isthmus devel (" + tail},
		{"go install", "", build("v1.2.3"), "isthmus v1.2.3 (" + tail},
		{"make build", "v1.2.3", build("(devel)", "vcs.revision", hash), "isthmus v1.2.3 (0123456789ab, " + tail},
		{"changed tree", "", build("", "vcs.revision", hash, "vcs.modified", "true"), "isthmus devel (0123456789ab-dirty, " + tail},
		{"short revision", "", build("", "vcs.revision", "abc"), "isthmus devel (abc, " + tail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := read(tt.tag, tt.build).String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
