package golden

import "testing"

// Run runs f for each case as a subtest RFC/file/name.
func Run(t *testing.T, cases []Case, f func(*testing.T, *Case)) {
	for _, rfc := range split(cases, func(c *Case) string { return c.RFC }) {
		t.Run(rfc[0].RFC, func(t *testing.T) {
			for _, file := range split(rfc, func(c *Case) string { return c.File }) {
				t.Run(file[0].File, func(t *testing.T) {
					for i := range file {
						t.Run(file[i].Name, func(t *testing.T) { f(t, &file[i]) })
					}
				})
			}
		})
	}
}

// split cuts the list where the key changes.
func split(cases []Case, key func(*Case) string) [][]Case {
	var out [][]Case
	start := 0
	for i := range cases {
		if i+1 == len(cases) || key(&cases[i+1]) != key(&cases[start]) {
			out = append(out, cases[start:i+1])
			start = i + 1
		}
	}
	return out
}
