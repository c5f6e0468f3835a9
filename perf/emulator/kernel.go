package emulator

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// kernel is one of Debian's, unpacked.
type kernel struct {
	image   string // vmlinuz
	modules string // the folder lib/modules/RELEASE
	release string
}

// findKernel unpacks the kernel that a metapackage stands for.
func findKernel(ctx context.Context, d *debian, meta string) (*kernel, error) {
	// Its newest version at the first time; which one ran is in the table.
	stamp := filepath.Join(d.dir, meta)
	name, err := os.ReadFile(stamp)
	if err != nil {
		found, err := d.depends(ctx, meta, "linux-image-")
		if err != nil {
			return nil, err
		}
		name = []byte(found)
	}
	root, err := d.unpack(ctx, false, string(name))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(stamp, name, 0o644); err != nil {
		return nil, err
	}
	k := &kernel{release: strings.TrimPrefix(string(name), "linux-image-")}
	k.image = filepath.Join(root, "boot", "vmlinuz-"+k.release)
	for _, lib := range []string{"lib", "usr/lib"} {
		k.modules = filepath.Join(root, lib, "modules", k.release)
		if _, err := os.Stat(k.modules); err == nil {
			break
		}
	}
	if _, err := os.Stat(filepath.Join(k.modules, "modules.dep")); err != nil {
		base := strings.TrimSuffix(k.modules, filepath.Join("lib", "modules", k.release))
		if err := command(ctx, "", nil, "/sbin/depmod", "-b", base, k.release); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// closure lists the files of modules, relative to the folder of all, each after
// those it needs. What is built into the kernel, or not there at all, is left out.
func (k *kernel) closure(names ...string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(k.modules, "modules.dep"))
	if err != nil {
		return nil, err
	}
	needs, file := map[string][]string{}, map[string]string{}
	for line := range strings.Lines(string(data)) {
		path, deps, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return nil, fmt.Errorf("%s/modules.dep: no colon in %q", k.modules, line)
		}
		needs[path] = strings.Fields(deps)
		name, _, _ := strings.Cut(filepath.Base(path), ".ko")
		file[strings.ReplaceAll(name, "-", "_")] = path
	}
	var list []string
	seen := map[string]bool{}
	var add func(path string)
	add = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		for _, n := range needs[path] {
			add(n)
		}
		list = append(list, path)
	}
	for _, n := range names {
		if path, ok := file[n]; ok {
			add(path)
		}
	}
	return list, nil
}
