package ordering

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// instruction is one of a function, as go tool objdump prints it.
type instruction struct {
	line
	op, args string
	next     []int // where it goes on, as indexes into the function
}

// function is a symbol's instructions.
type function struct {
	name string
	code []instruction
}

var instructionLine = regexp.MustCompile(`^  (\S+):(\d+)\t+0x([0-9a-f]+)\t+[0-9a-f]+\t+(\S+) ?(.*?)\s*$`)

// readDump reads what go tool objdump prints of an arm64 program.
func readDump(in io.Reader) ([]*function, error) {
	var list []*function
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		text := lines.Text()
		if rest, ok := strings.CutPrefix(text, "TEXT "); ok {
			name, _, _ := strings.Cut(rest, "(SB)")
			list = append(list, &function{name: name})
			continue
		}
		m := instructionLine.FindStringSubmatch(text)
		if m == nil {
			if strings.TrimSpace(text) != "" {
				return nil, fmt.Errorf("go tool objdump printed a line that can't be read: %q", text)
			}
			continue
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("go tool objdump printed an instruction of no function: %q", text)
		}
		n, err := strconv.Atoi(m[2])
		if err != nil {
			return nil, err
		}
		f := list[len(list)-1]
		f.code = append(f.code, instruction{line: line{m[1], n}, op: m[4], args: m[5]})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	for _, f := range list {
		if err := f.link(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

var (
	conditional = regexp.MustCompile(`^(B(EQ|NE|CS|CC|HS|LO|MI|PL|VS|VC|HI|LS|GE|LT|GT|LE)|C?BN?ZW?|T?BN?ZW?)$`)
	relative    = regexp.MustCompile(`(-?\d+)\(PC\)$`)
)

// link finds where each instruction goes on. A panic and the growth of the stack
// end a function: the latter begins it anew.
func (f *function) link() error {
	for i := range f.code {
		c := &f.code[i]
		jumps := c.op == "JMP" || conditional.MatchString(c.op)
		switch {
		case c.op == "RET", c.op == "UNDEF",
			c.op == "JMP" && strings.HasSuffix(c.args, "(SB)"),
			c.op == "CALL" && (strings.HasPrefix(c.args, "runtime.panic") || strings.HasPrefix(c.args, "runtime.gopanic")):
			continue
		case jumps:
			m := relative.FindStringSubmatch(c.args)
			if m == nil {
				return fmt.Errorf("%s: %v: a jump to where: %s %s", f.name, c.line, c.op, c.args)
			}
			n, err := strconv.Atoi(m[1])
			if err != nil {
				return err
			}
			if i+n < 0 || i+n >= len(f.code) {
				return fmt.Errorf("%s: %v: a jump out of the function: %s %s", f.name, c.line, c.op, c.args)
			}
			c.next = append(c.next, i+n)
		}
		if c.op != "JMP" && i+1 < len(f.code) {
			c.next = append(c.next, i+1)
		}
	}
	return nil
}

// memory tells whether an instruction loads or stores, but for the stack.
func (c *instruction) memory() bool {
	return strings.Contains(c.args, "(R") && !strings.Contains(c.args, "(RSP)")
}

// reach lists what can be executed after instruction i, without going through
// those that stop.
func (f *function) reach(i int, stop func(*instruction) bool) []*instruction {
	seen := make([]bool, len(f.code))
	var list []*instruction
	for todo := f.code[i].next; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[n] {
			continue
		}
		seen[n] = true
		c := &f.code[n]
		list = append(list, c)
		if !stop(c) {
			todo = append(todo[:len(todo):len(todo)], c.next...)
		}
	}
	return list
}
