package config

import (
	"fmt"
	"strings"
)

// ReferenceTOML is deploy/isthmus.toml: every key, commented out, with its
// default.
func ReferenceTOML() string {
	var b strings.Builder
	comment(&b, "The configuration of isthmus. Every key may be left out; what stands here commented out is what then holds. "+
		"`isthmus check -c FILE` tells what is wrong with a file and what it would do. "+
		"Keys marked (restart) take effect on start only, all others also on `systemctl reload isthmus`.")
	comment(&b, "Made from cmd/internal/config/keys.go by `make generate`.")
	for i := range language {
		s := &language[i]
		b.WriteString("\n")
		comment(&b, plain(s.doc))
		if s.path != "" {
			if s.many {
				b.WriteString("#")
			}
			b.WriteString(s.header() + "\n")
		}
		for _, k := range s.keys {
			b.WriteString("\n")
			notes := k.typ
			if k.required {
				notes += ", required"
			}
			if k.restart {
				notes += " (restart)"
			}
			comment(&b, plain(k.doc))
			comment(&b, notes)
			def := k.def
			if k.required {
				def = k.example
			}
			fmt.Fprintf(&b, "#%s = %s\n", k.name, def)
		}
	}
	return b.String()
}

// ReferenceMarkdown is docs/config.md.
func ReferenceMarkdown() string {
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Made from cmd/internal/config/keys.go by "make generate". -->

One TOML file, given with ` + "`isthmus run -c FILE`" + `. Without a file the defaults below hold.
The file is strict: an unknown key is an error. ` + "`isthmus check -c FILE`" + ` lists every error
with its line and column, and what the file would do.

On SIGHUP (` + "`systemctl reload isthmus`" + `) the file is read again. A file with an error is
reported and the running configuration stays. Keys marked *restart* are named in the log
when they have changed, and take effect on the next start.

[deploy/isthmus.toml](../deploy/isthmus.toml) is the same reference as a file to start from.
`)
	for i := range language {
		s := &language[i]
		title := "Top of the file"
		if s.path != "" {
			title = "`" + s.header() + "`"
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", title, s.doc)
		b.WriteString("| key | type | default | changes on | meaning |\n| --- | --- | --- | --- | --- |\n")
		for _, k := range s.keys {
			def := "required"
			if !k.required {
				def = "`" + k.def + "`"
			}
			on := "reload"
			if k.restart {
				on = "restart"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s Example: `%s = %s` |\n", k.name, k.typ, def, on, k.doc, k.name, k.example)
		}
	}
	return b.String()
}

// plain drops Markdown's code marks.
func plain(s string) string { return strings.ReplaceAll(s, "`", "") }

// comment writes text as TOML comment lines of at most 80 columns.
func comment(b *strings.Builder, text string) {
	line := "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > 80 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
