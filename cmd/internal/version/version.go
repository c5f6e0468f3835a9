// Package version tells which isthmus this is: from the linker ("make build"
// passes the tag) or else from what the go command has recorded in the binary.
package version

import (
	"runtime"
	"runtime/debug"
)

// tag is set with -ldflags "-X aarch64.com/isthmus/cmd/internal/version.tag=v1.2.3".
var tag string

// Info describes the binary. Fields that nobody recorded are empty.
type Info struct {
	Version  string // tag, pseudo-version or "devel"
	Revision string // commit, with "-dirty" when the tree had changes
	Time     string // of the commit, RFC 3339
	Go       string
	Platform string // GOOS/GOARCH
}

// Get reads what is known about the running binary.
func Get() Info {
	build, _ := debug.ReadBuildInfo()
	return read(tag, build)
}

func read(tag string, build *debug.BuildInfo) Info {
	i := Info{Version: tag, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if build == nil {
		build = &debug.BuildInfo{}
	}
	dirty := false
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Revision = s.Value
		case "vcs.time":
			i.Time = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty && i.Revision != "" {
		i.Revision += "-dirty"
	}
	if i.Version == "" && build.Main.Version != "(devel)" {
		i.Version = build.Main.Version
	}
	if i.Version == "" {
		i.Version = "devel"
	}
	return i
}

// String is one line: "isthmus v1.2.3 (0123456789ab, go1.26.8, linux/amd64)".
func (i Info) String() string {
	s := "isthmus " + i.Version + " ("
	if i.Revision != "" {
		s += short(i.Revision) + ", "
	}
	return s + i.Go + ", " + i.Platform + ")"
}

// short cuts a commit hash to 12 digits and keeps the rest.
func short(revision string) string {
	const hash = 40
	if len(revision) < hash {
		return revision
	}
	return revision[:12] + revision[hash:]
}
