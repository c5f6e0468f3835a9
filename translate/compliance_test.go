package translate_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"aarch64.com/isthmus/translate"
)

// The packages whose tests docs/compliance.md may name, by the word in front of
// the dot; package translate needs none.
var compliancePackages = map[string]string{
	"translate": ".", "router": "router", "lpm": "internal/lpm", "xsk": "../xsk", "tun": "../xsk/tun",
	"config": "../cmd/internal/config", "explain": "../cmd/internal/explain", "isthmus": "../cmd/isthmus",
}

// TestCompliance: the table can't drift from the tests.
func TestCompliance(t *testing.T) {
	doc, err := os.ReadFile("../docs/compliance.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := complianceTests()
	if err != nil {
		t.Fatal(err)
	}
	golden, err := goldenNames("testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range checkCompliance(string(doc), tests, golden, verdictSections()) {
		t.Error(problem)
	}
}

// testSources are the tests of a package: what each can name its subtests.
type testSources struct {
	own    map[string]map[string]bool // string literals in each test
	shared map[string]bool            // and outside of tests, for tables kept apart
}

// complianceTests reads the test files of all packages.
func complianceTests() (map[string]*testSources, error) {
	all := map[string]*testSources{}
	for name, dir := range compliancePackages {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			return nil, err
		}
		s := &testSources{map[string]map[string]bool{}, map[string]bool{}}
		all[name] = s
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				return nil, err
			}
			for _, d := range f.Decls {
				into := s.shared
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && testName.MatchString(fn.Name.Name) {
					into = map[string]bool{}
					s.own[fn.Name.Name] = into
				}
				ast.Inspect(d, func(n ast.Node) bool {
					if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
						if text, err := strconv.Unquote(lit.Value); err == nil {
							into[strings.ReplaceAll(text, " ", "_")] = true
						}
					}
					return true
				})
			}
		}
	}
	return all, nil
}

// goldenNames gives the cases of each golden file: 7915/4.1_x.txt is "7915/4.1_x".
func goldenNames(dir string) (map[string][]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.txt"))
	if err != nil {
		return nil, err
	}
	names := map[string][]string{}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(dir, strings.TrimSuffix(path, ".txt"))
		if err != nil {
			return nil, err
		}
		key := filepath.ToSlash(rel)
		names[key] = nil
		for line := range strings.Lines(string(b)) {
			if name, ok := strings.CutPrefix(line, "## "); ok {
				names[key] = append(names[key], strings.TrimSpace(name))
			}
		}
	}
	return names, nil
}

// verdictSections are the rules that the verdicts name, as "RFC 7915 4.1".
func verdictSections() []string {
	var all []string
	for v := range translate.NumVerdicts {
		rfc := ""
		for part := range strings.SplitSeq(translate.Verdict(v).Info().Section, ", ") {
			if words := strings.Fields(part); len(words) >= 2 {
				rfc, part = words[0]+" "+words[1], strings.Join(words[2:], " ")
			}
			if part != "" {
				all = append(all, rfc+" "+part)
			}
		}
	}
	return all
}

var (
	testName    = regexp.MustCompile(`^(Test|Fuzz|Example)`)
	sectionForm = regexp.MustCompile(`^[1-9][0-9]*(\.[1-9][0-9]*)*( [a-z](\.[1-9])?)?$`)
	reference   = regexp.MustCompile("^`[^`]+`$")
	levels      = []string{"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "RECOMMENDED", "MAY", "rule"}
)

// checkCompliance gives what is wrong with the table.
func checkCompliance(doc string, tests map[string]*testSources, golden map[string][]string, rules []string) []string {
	var problems []string
	sections := map[string]bool{} // "RFC 7915 4.1"
	rfcs := map[string]bool{}
	rfc, rows := "", 0
	for i, line := range strings.Split(doc, "\n") {
		wrong := func(format string, args ...any) {
			problems = append(problems, fmt.Sprintf("docs/compliance.md:%d: ", i+1)+fmt.Sprintf(format, args...))
		}
		if title, ok := strings.CutPrefix(line, "## "); ok {
			if rfc, _, _ = strings.Cut(title, ":"); !regexp.MustCompile(`^RFC [1-9][0-9]{2,4}$`).MatchString(rfc) {
				wrong("the heading %q does not start with an RFC", title)
			}
			rfcs[rfc] = true
			continue
		}
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| section |") {
			continue
		}
		rows++
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "|"), "|"), "|")
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		if len(cells) != 6 {
			wrong("%d cells, want 6", len(cells))
			continue
		}
		section, level, what, status, done, shown := cells[0], cells[1], cells[2], cells[3], cells[4], cells[5]
		if !sectionForm.MatchString(section) {
			wrong("section %q is not well-formed", section)
		}
		first, _, _ := strings.Cut(section, " ")
		sections[rfc+" "+first] = true
		if !slices.Contains(levels, level) {
			wrong("level %q", level)
		}
		if what == "" {
			wrong("no requirement")
		}
		switch {
		case !slices.Contains([]string{"done", "in part", "no", "n/a"}, status):
			wrong("status %q", status)
		case status == "done" && shown == "":
			wrong("done, but shown by no test")
		case status != "done" && done == "":
			wrong("%s, but there is no reason", status)
		}
		for ref := range strings.SplitSeq(shown, ", ") {
			if shown == "" {
				break
			}
			if !reference.MatchString(ref) {
				wrong("%q is no name of a test in backquotes", ref)
			} else if why := findTest(strings.Trim(ref, "`"), tests, golden); why != "" {
				wrong("%s: %s", ref, why)
			}
		}
	}
	if rows == 0 {
		problems = append(problems, "docs/compliance.md: no rows")
	}
	for file := range golden {
		rfc, name, _ := strings.Cut(file, "/")
		section, _, _ := strings.Cut(name, "_")
		if !sections["RFC "+rfc+" "+section] {
			problems = append(problems, fmt.Sprintf("docs/compliance.md: no row for RFC %s section %s, which golden/%s.txt is about", rfc, section, file))
		}
	}
	for _, rule := range rules {
		words := strings.Fields(rule)
		if rfcs[words[0]+" "+words[1]] && !sections[strings.Join(words[:3], " ")] {
			problems = append(problems, fmt.Sprintf("docs/compliance.md: no row for %s, which a verdict names", rule))
		}
	}
	slices.Sort(problems)
	return problems
}

// findTest says why there is no such test, "" if there is one.
func findTest(ref string, tests map[string]*testSources, golden map[string][]string) string {
	if name, ok := strings.CutPrefix(ref, "golden "); ok {
		parts := strings.SplitN(name, "/", 3)
		if len(parts) < 2 {
			return "write golden RFC/FILE or golden RFC/FILE/CASE"
		}
		cases, ok := golden[parts[0]+"/"+parts[1]]
		switch {
		case !ok:
			return "no such golden file"
		case len(parts) == 3 && !slices.Contains(cases, parts[2]):
			return "no such case in the golden file"
		}
		return ""
	}
	name, sub, hasSub := strings.Cut(ref, "/")
	pkg := "translate"
	if before, after, ok := strings.Cut(name, "."); ok {
		pkg, name = before, after
	}
	s := tests[pkg]
	if s == nil {
		return "no such package among those that the test knows"
	}
	own, ok := s.own[name]
	if !ok || !testName.MatchString(name) {
		return "no such test"
	}
	if !hasSub {
		return ""
	}
	// Names that are put together start with a literal.
	sub = strings.TrimSuffix(sub, "*")
	if sub == "" || !own[sub] && !s.shared[sub] {
		return "no such subtest"
	}
	return ""
}

// TestComplianceChecker: the check above really fails.
func TestComplianceChecker(t *testing.T) {
	tests := map[string]*testSources{
		"translate": {map[string]map[string]bool{"TestA": {"4.1_x": true, "made_": true}, "FuzzB": {}}, map[string]bool{"apart": true}},
		"router":    {map[string]map[string]bool{"TestC": {}}, nil},
	}
	golden := map[string][]string{"7915/4.1_headers": {"one", "two"}}
	rules := []string{"RFC 7915 4.1", "RFC 791 3.1"}
	doc := func(row string) string { return "# Compliance\n\n## RFC 7915: a title\n\n| section |\n| --- |\n" + row }
	const good = "| 4.1 | MUST | This. | done | So. | `TestA/4.1_x`, `TestA`, `FuzzB`, `TestA/made_*`, `TestA/apart`, `router.TestC`, `golden 7915/4.1_headers`, `golden 7915/4.1_headers/two` |\n"
	if problems := checkCompliance(doc(good), tests, golden, rules); problems != nil {
		t.Errorf("nothing is wrong, but %q", problems)
	}
	for _, tt := range []struct{ name, row, want string }{
		{"no test", "| 4.1 | MUST | This. | done | So. | `TestNone` |", "no such test"},
		{"no subtest", "| 4.1 | MUST | This. | done | So. | `TestA/4.1_y` |", "no such subtest"},
		{"subtest of another test", "| 4.1 | MUST | This. | done | So. | `FuzzB/4.1_x` |", "no such subtest"},
		{"no made subtest", "| 4.1 | MUST | This. | done | So. | `TestA/mad*` |", "no such subtest"},
		{"anything", "| 4.1 | MUST | This. | done | So. | `TestA/*` |", "no such subtest"},
		{"no package", "| 4.1 | MUST | This. | done | So. | `nowhere.TestA` |", "no such package"},
		{"no golden file", "| 4.1 | MUST | This. | done | So. | `golden 7915/4.9_x` |", "no such golden file"},
		{"no golden case", "| 4.1 | MUST | This. | done | So. | `golden 7915/4.1_headers/three` |", "no such case in the golden file"},
		{"half a golden name", "| 4.1 | MUST | This. | done | So. | `golden 7915` |", "write golden RFC/FILE"},
		{"no backquotes", "| 4.1 | MUST | This. | done | So. | TestA |", "in backquotes"},
		{"no status", "| 4.1 | MUST | This. | | So. | `TestA` |", `status ""`},
		{"another status", "| 4.1 | MUST | This. | perhaps | So. | `TestA` |", `status "perhaps"`},
		{"done without test", "| 4.1 | MUST | This. | done | So. | |", "done, but shown by no test"},
		{"no reason", "| 4.1 | MUST | This. | no | | |", "no, but there is no reason"},
		{"section", "| 4.1.x | MUST | This. | done | So. | `TestA` |", `section "4.1.x" is not well-formed`},
		{"level", "| 4.1 | WOULD | This. | done | So. | `TestA` |", `level "WOULD"`},
		{"no requirement", "| 4.1 | MUST | | done | So. | `TestA` |", "no requirement"},
		{"cells", "| 4.1 | MUST | This. | done |", "4 cells, want 6"},
		{"golden section", "| 4.2 | MUST | This. | done | So. | `TestA` |", "no row for RFC 7915 section 4.1, which golden/7915/4.1_headers.txt is about"},
		{"verdict's section", "| 4.2 | MUST | This. | done | So. | `TestA` |", "no row for RFC 7915 4.1, which a verdict names"},
		{"heading", "## Others\n" + good, `the heading "Others" does not start with an RFC`},
		{"no rows", "", "no rows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			problems := checkCompliance(doc(tt.row), tests, golden, rules)
			if !strings.Contains(strings.Join(problems, "\n"), tt.want) {
				t.Errorf("got %q, want %q", problems, tt.want)
			}
		})
	}
}
