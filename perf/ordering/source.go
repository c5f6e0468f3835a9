package ordering

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
)

// line is one of the source: a file's base name and a number.
type line struct {
	file string
	n    int
}

func (l line) String() string { return fmt.Sprintf("%s:%d", l.file, l.n) }

// source is what a package does with rings: structures with the fields prod, cons
// and flags, which point to what the kernel shares, and slots.
type source struct {
	load  map[line]bool   // atomic.LoadUint32 of prod or cons
	flags map[line]bool   // of flags
	store map[line]bool   // atomic.StoreUint32
	slots map[line]string // the ring whose slots are accessed
	plain []string        // accesses to prod, cons and flags that are not atomic
}

// readSource reads a folder's Go files without its tests.
func readSource(dir string) (*source, error) {
	s := &source{load: map[line]bool{}, flags: map[line]bool{}, store: map[line]bool{}, slots: map[line]string{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		s.read(set, f)
	}
	return s, nil
}

func (s *source) read(set *token.FileSet, f *ast.File) {
	at := func(n ast.Node) line {
		p := set.Position(n.Pos())
		return line{filepath.Base(p.Filename), p.Line}
	}
	atomic := map[ast.Node]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			f, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || len(n.Args) == 0 {
				break
			}
			index, isIndex := n.Args[0].(*ast.SelectorExpr)
			pkg, isName := f.X.(*ast.Ident)
			if !isIndex || !isName || pkg.Name != "atomic" || !shared(index) {
				break
			}
			atomic[index] = true
			switch {
			case f.Sel.Name == "LoadUint32" && index.Sel.Name == "flags":
				s.flags[at(n)] = true
			case f.Sel.Name == "LoadUint32":
				s.load[at(n)] = true
			case f.Sel.Name == "StoreUint32":
				s.store[at(n)] = true
			default:
				s.plain = append(s.plain, fmt.Sprintf("%v: atomic.%s of %s is none of load and store", at(n), f.Sel.Name, index.Sel.Name))
			}
		case *ast.IndexExpr:
			if x, ok := n.X.(*ast.SelectorExpr); ok && x.Sel.Name == "slots" {
				s.slots[at(n)] = name(x.X)
			}
		case *ast.SelectorExpr:
			if shared(n) && !atomic[n] {
				s.plain = append(s.plain, fmt.Sprintf("%v: %s is not the argument of a function of sync/atomic", at(n), n.Sel.Name))
			}
		}
		return true
	})
}

// shared tells whether an expression is a field that points to memory of the kernel's.
func shared(e *ast.SelectorExpr) bool {
	return e.Sel.Name == "prod" || e.Sel.Name == "cons" || e.Sel.Name == "flags"
}

// name is the last name of a path: "rx" of s.rx.
func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return "?"
}
