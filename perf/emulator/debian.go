package emulator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// mirror and keyring are where packages come from, and what they are signed with.
const (
	mirror  = "http://deb.debian.org/debian"
	keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// debian is a release of Debian for an architecture, in folders of its own: the
// machine's packages and lists are neither used nor changed.
type debian struct {
	suite, arch string
	dir         string // below the cache
}

func newDebian(cache, suite, arch string) *debian {
	return &debian{suite: suite, arch: arch, dir: filepath.Join(cache, suite+"-"+arch)}
}

// unpack gives a folder with the files of packages and of all that they depend on,
// where deep is set. Their scripts are not run. It is made once for a list of
// packages.
func (d *debian) unpack(ctx context.Context, deep bool, packages ...string) (string, error) {
	slices.Sort(packages)
	sum := sha256.Sum256([]byte(fmt.Sprint(deep, packages)))
	root := filepath.Join(d.dir, "root-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	files, err := d.fetch(ctx, deep, packages)
	if err != nil {
		return "", err
	}
	half := root + ".half"
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	for _, f := range files {
		if err := command(ctx, "", nil, "dpkg-deb", "-x", f, half); err != nil {
			return "", err
		}
	}
	return root, os.Rename(half, root)
}

// fetch downloads packages, checked by apt, and names their files.
func (d *debian) fetch(ctx context.Context, deep bool, packages []string) ([]string, error) {
	if _, err := os.Stat(keyring); err != nil {
		return nil, fmt.Errorf("%w; packages can't be checked without it: install the package debian-archive-keyring (make deps-arm64)", err)
	}
	env, err := d.configure()
	if err != nil {
		return nil, err
	}
	if err := d.update(ctx, env); err != nil {
		return nil, err
	}
	archives := filepath.Join(d.dir, "cache", "archives")
	if deep {
		if old, err := filepath.Glob(filepath.Join(archives, "*.deb")); err != nil {
			return nil, err
		} else if err := removeAll(old); err != nil {
			return nil, err
		}
		err = command(ctx, "", env, "apt-get", append([]string{"install", "--download-only", "-y", "-q", "--no-install-recommends"}, packages...)...)
	} else {
		archives = filepath.Join(d.dir, "single")
		if err := errors.Join(os.RemoveAll(archives), os.MkdirAll(archives, 0o755)); err != nil {
			return nil, err
		}
		err = command(ctx, archives, env, "apt-get", append([]string{"download", "-q"}, packages...)...)
	}
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("apt-get brought no package of %v", packages)
	}
	return files, err
}

// update brings the lists of packages.
func (d *debian) update(ctx context.Context, env []string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%w; kernels and programs come from Debian's packages: run this on Debian or Ubuntu", err)
	}
	if err := command(ctx, "", env, "apt-get", "update", "-q"); err != nil {
		return fmt.Errorf("%s can't be reached; check the network, or name a proxy in http_proxy: %w", mirror, err)
	}
	return nil
}

// configure writes what apt reads, and gives the environment that points to it.
func (d *debian) configure() ([]string, error) {
	for _, dir := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(d.dir, dir), 0o755); err != nil {
			return nil, err
		}
	}
	config := filepath.Join(d.dir, "apt.conf")
	lines := []string{
		`Dir::State "` + d.dir + `/state";`,
		`Dir::State::status "` + d.dir + `/status";`,
		`Dir::Cache "` + d.dir + `/cache";`,
		`Dir::Etc::sourcelist "` + d.dir + `/sources.list";`,
		`Dir::Etc::sourceparts "/dev/null";`,
		`Dir::Etc::preferencesparts "/dev/null";`,
		`APT::Architecture "` + d.arch + `";`,
		`APT::Architectures "` + d.arch + `";`,
		`APT::Sandbox::User "";`,
		`APT::Update::Error-Mode "any";`, // else what can't be had is a warning
		`Acquire::Languages "none";`,
		`Debug::NoLocking "1";`,
		`quiet::NoUpdate "1";`,
	}
	for name, text := range map[string]string{
		config:                               strings.Join(lines, "\n") + "\n",
		filepath.Join(d.dir, "status"):       "",
		filepath.Join(d.dir, "sources.list"): fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, mirror, d.suite),
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return []string{"APT_CONFIG=" + config}, nil
}

func removeAll(files []string) error {
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

// depends lists what a package depends on.
func (d *debian) depends(ctx context.Context, name string) ([]string, error) {
	env, err := d.configure()
	if err != nil {
		return nil, err
	}
	if err := d.update(ctx, env); err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, "apt-cache", "depends", name)
	c.Env = append(os.Environ(), env...)
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("apt-cache depends %s: %w", name, err)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		if p, ok := strings.CutPrefix(strings.TrimLeft(line, " |"), "Depends: "); ok {
			list = append(list, strings.TrimSpace(p))
		}
	}
	return list, nil
}

// command runs a program, and shows its output if it fails.
func command(ctx context.Context, dir string, env []string, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s: %w\n%s", strings.Join(append([]string{name}, args...), " "), err, out)
	}
	return nil
}
