package emulator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// accounts are what the packages' scripts would have made, had they been run.
var accounts = map[string]string{
	"etc/passwd":        "root:x:0:0:root:/tmp:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nunbound:x:101:101::/var/lib/unbound:/usr/sbin/nologin\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"etc/group":         "root:x:0:\nwww-data:x:33:\nunbound:x:101:\nnogroup:x:65534:\n",
	"etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
	"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	"etc/resolv.conf":   "",
}

// writeImage makes the initramfs: cpio archives one after the other, which the
// kernel unpacks in this order.
func writeImage(path string, archives ...string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	for _, a := range archives {
		in, err := os.Open(a)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		in.Close()
		if err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return out.Close()
}

// archive packs a folder as root's, for the kernel to unpack.
func archive(ctx context.Context, dir, to string) error {
	abs, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	half := abs + ".half"
	err = command(ctx, dir, nil, "sh", "-c",
		`find . -path ./usr/share/doc -prune -o -path ./usr/share/man -prune -o -path ./usr/share/locale -prune -o -path ./usr/share/info -prune -o -print0 | cpio --quiet -0 -o -H newc -R 0:0 >"$0"`, half)
	if err != nil {
		return err
	}
	return os.Rename(half, abs)
}

// userland is the archive of a guest's programs, made once.
func userland(ctx context.Context, d *debian, packages []string) (string, error) {
	root, err := d.unpack(ctx, true, packages...)
	if err != nil {
		return "", err
	}
	file := root + ".cpio"
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	for name, text := range accounts {
		if err := writeFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	for _, dir := range []string{"tmp", "proc", "sys", "dev", "run", "root", "var/tmp", "var/run", "var/log/nginx", "var/lib/nginx"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return "", err
		}
	}
	return file, archive(ctx, root, file)
}

// work packs what is this run's own: init, the plan, the kernel's modules, and
// files, which maps paths in the guest to those here.
func work(ctx context.Context, dir, to string, k *kernel, modules []string, plan Plan, files map[string]string) error {
	found, err := k.closure(modules...)
	if err != nil {
		return err
	}
	for _, m := range found {
		at := filepath.Join("/lib/modules", k.release, m)
		files[at] = filepath.Join(k.modules, m)
		plan.Modules = append(plan.Modules, at)
	}
	data, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, PlanPath), data, 0o644); err != nil {
		return err
	}
	for at, file := range files {
		if err := link(file, filepath.Join(dir, at)); err != nil {
			return err
		}
	}
	return archive(ctx, dir, to)
}

func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, mode)
}

// link puts a file or a tree at a second place, without a copy where it can.
func link(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm())
}

// sources copies the files that git knows, for the tests' data.
func sources(ctx context.Context, root, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	return command(ctx, root, nil, "sh", "-c", `git ls-files -z | cpio --quiet -0 -p -d "$0"`, to)
}

// testName is what the test binary of a package is called.
func testName(pkg string) string { return strings.ReplaceAll(pkg, "/", "_") + ".test" }
