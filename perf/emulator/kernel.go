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
	var names []string
	if data, err := os.ReadFile(stamp); err == nil {
		names = strings.Fields(string(data))
	} else if names, err = packagesOf(meta, func(name string) ([]string, error) { return d.depends(ctx, name) }); err != nil {
		return nil, fmt.Errorf("kernel of Debian %s: %w", d.suite, err)
	}
	root, err := d.unpack(ctx, false, names...)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(stamp, []byte(strings.Join(names, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	k := &kernel{}
	for _, n := range names {
		if r, ok := strings.CutPrefix(n, "linux-image-"); ok {
			k.release = r
		}
	}
	k.modules = filepath.Join(root, "lib/modules", k.release)
	if moved := filepath.Join(root, "usr/lib/modules", k.release); exists(moved) {
		// depmod looks in /lib alone where it is of the time before.
		k.modules = moved
		if err := os.MkdirAll(filepath.Join(root, "lib"), 0o755); err != nil {
			return nil, err
		}
		if at := filepath.Join(root, "lib/modules"); !exists(at) {
			if err := os.Symlink("../usr/lib/modules", at); err != nil {
				return nil, err
			}
		}
	}
	if k.image = filepath.Join(root, "boot", "vmlinuz-"+k.release); !exists(k.image) {
		k.image = filepath.Join(k.modules, "vmlinuz") // since Debian 14
	}
	if !exists(filepath.Join(k.modules, "modules.dep")) {
		if err := command(ctx, "", nil, "depmod", "-b", root, k.release); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// packagesOf names those of a metapackage's kernel: one, or since Debian 14 the
// image, the modules and what belongs to them, all of one release.
func packagesOf(meta string, depends func(string) ([]string, error)) ([]string, error) {
	found, err := depends(meta)
	if err != nil {
		return nil, err
	}
	for _, image := range found {
		release, ok := strings.CutPrefix(image, "linux-image-")
		if !ok {
			continue
		}
		parts, err := depends(image)
		if err != nil {
			return nil, err
		}
		list := []string{image}
		for _, p := range parts {
			if strings.HasPrefix(p, "linux-") && strings.HasSuffix(p, "-"+release) {
				list = append(list, p)
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("%s depends on no package linux-image-*", meta)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
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
