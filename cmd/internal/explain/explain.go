package explain

import (
	"encoding/hex"
	"fmt"
	"net/netip"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/packettext"
	"aarch64.com/isthmus/translate/router"
)

// Options say how the packet comes and what the links are.
type Options struct {
	Config     translate.Config
	ConfigName string
	Port       string // the port it comes in by, for people
	FromKernel bool   // it comes by the TUN device
	Complete   bool   // the port completes partial checksums first (checksum = "complete")
	Meta       translate.Meta
	MTUIn      int // 0: not known
	MTUOut     int
	Own        []netip.Addr // addresses of the translating host
	Dynamic    bool         // a running isthmus gives hosts without a mapping one
	AutoVMs    bool         // a running isthmus takes vm_prefixes from its routes
}

// Report is the whole explanation.
type Report struct {
	Source    string    `json:"source"`
	Config    string    `json:"config"`
	Port      string    `json:"port,omitempty"`
	MTUIn     int       `json:"mtu_in"` // 0: not known
	MTUOut    int       `json:"mtu_out"`
	Notes     []string  `json:"notes,omitempty"`
	Steps     []Step    `json:"steps"`
	Verdict   Verdict   `json:"verdict"`
	Counters  []Counter `json:"counters"`
	Before    Packet    `json:"before"`
	After     *Packet   `json:"after,omitempty"`
	Fragments []Packet  `json:"fragments,omitempty"`
	Error     *Packet   `json:"icmp_error,omitempty"`
}

// Counter is a sample of /metrics, without the label worker, and by how much it
// goes up.
type Counter struct {
	Sample string `json:"sample"`
	Add    int    `json:"add"`
}

// Step is translate.Step for programs.
type Step struct {
	Topic   string `json:"topic"`
	Text    string `json:"text"`
	Section string `json:"section,omitempty"`
	Verdict string `json:"verdict,omitempty"` // where the packet's way ends
}

// Verdict is what became of the packet.
type Verdict struct {
	Label   string `json:"label"`
	Action  string `json:"action"`
	Section string `json:"section"`
	Doc     string `json:"doc"`
}

// Packet is one in bytes and fields.
type Packet struct {
	Length int     `json:"length"`
	Hex    string  `json:"hex"`
	Text   string  `json:"text"` // as translate/packettext writes it
	Fields []Field `json:"fields"`
}

func newPacket(p []byte, partial bool) Packet {
	return Packet{len(p), hex.EncodeToString(p), packettext.Format(p), dissect(p, partial)}
}

// Sources of our own ICMP errors where neither the configuration nor Own names
// one: the IPv4 dummy address (RFC 7600) and the discard prefix (RFC 6666).
var (
	dummy4 = netip.MustParseAddr("192.0.0.8")
	dummy6 = netip.MustParseAddr("100::8")
)

// Explain does with the packet what a worker does, and tells why.
func Explain(in Input, o Options) (*Report, error) {
	c := o.Config
	for _, a := range o.Own {
		if a.Is4() {
			c.Local4 = append(c.Local4[:len(c.Local4):len(c.Local4)], a)
		} else {
			c.Local6 = append(c.Local6[:len(c.Local6):len(c.Local6)], a)
		}
	}
	tr, err := translate.New(c)
	if err != nil {
		return nil, err
	}
	start := translate.Headroom
	buf := append(make([]byte, start), in.Packet...)
	r := &Report{Source: in.Source, Config: o.ConfigName, Port: o.Port, Notes: in.Notes, MTUIn: o.MTUIn, MTUOut: o.MTUOut}
	p := buf[start:]
	if o.Complete && translate.CompleteChecksum(p) {
		r.Notes = append(r.Notes, `the port completed its partial checksum (checksum = "complete")`)
	}
	r.Before = newPacket(p, o.Meta.PartialChecksum)
	for _, s := range tr.Trace(p, o.Meta, o.MTUIn, o.MTUOut) {
		step := Step{Topic: s.Topic, Text: s.Text, Section: s.Section}
		if s.Verdict != translate.Forward {
			step.Verdict = s.Verdict.String()
		}
		r.Steps = append(r.Steps, step)
	}

	// From here on, this is what a worker does.
	var plan translate.Plan
	v := tr.Decide(&plan, p, o.Meta)
	if v.Action() == translate.Emit {
		v = tr.Fit(&plan, o.MTUIn, o.MTUOut)
	}
	r.count("packets", "verdict", v.String(), plan.From)
	if o.Dynamic && (v == translate.NoMapping6 || v == translate.NotOurs4) {
		r.Notes = append(r.Notes, "a running isthmus also has the mappings of [router.dynamic], which only it knows, and may make one for this packet; to see it translated, write one into eam of a copy of the file")
	}
	if o.AutoVMs && plan.From == translate.V6 {
		r.Notes = append(r.Notes, "vm_prefixes is auto: a running isthmus knows its routes, and drops this packet as foreign_source6 if none leads to its source")
	}
	info := v.Info()
	r.Verdict = Verdict{info.Label, info.Action.String(), info.Section, info.Doc}
	switch v.Action() {
	case translate.Emit:
		at, n := tr.Rewrite(&plan, translate.NewState(1), buf, start)
		after := newPacket(buf[at:at+n], o.Meta.PartialChecksum)
		r.After = &after
	case translate.Cut:
		at, n := tr.Rewrite(&plan, translate.NewState(1), buf, start)
		after := newPacket(buf[at:at+n], false)
		r.After = &after
		part := make([]byte, n)
		for more := true; more; {
			var k int
			k, more = plan.Split(buf[at:at+n], part)
			r.Fragments = append(r.Fragments, newPacket(part[:k], false))
			r.event(router.FragmentSent)
		}
	case translate.Answer:
		r.answer(tr, &plan, buf, start, o)
	case translate.Pass:
		if o.FromKernel {
			r.event(router.LoopedBack)
		} else {
			r.event(router.ToKernel)
		}
	}
	return r, nil
}

// answer builds the ICMP error about the untouched packet.
func (r *Report) answer(tr *translate.Translator, plan *translate.Plan, buf []byte, start int, o Options) {
	src := translate.Sources{V4: dummy4.As4(), V6: dummy6.As16()}
	four, six := false, false
	for _, a := range o.Own {
		switch {
		case a.Is4() && !four:
			src.V4, four = a.As4(), true
		case a.Is6() && !six:
			src.V6, six = a.As16(), true
		}
	}
	at, n, ok := tr.Error(plan, buf, start, src)
	if !ok {
		r.event(router.ErrorForbidden)
		return
	}
	r.event(router.ErrorSent)
	e := newPacket(buf[at:at+n], false)
	r.Error = &e
	named := plan.From == translate.V4 && (four || len(o.Config.ICMPSource4) > 0) || plan.From == translate.V6 && (six || len(o.Config.ICMPSource6) > 0)
	if !named {
		r.Notes = append(r.Notes, "the ICMP error comes from an address of the translating host; --own ADDRESS puts it in place of the one shown")
	}
}

// event is a counter of the router besides the verdict.
func (r *Report) event(reason router.Reason) {
	name, label := "events", "event"
	if reason.Info().Drop {
		name, label = "drops", "reason"
	}
	r.count(name, label, reason.String(), 0)
}

// count is the sample that moves, as /metrics shows it; several times the same
// one is counted up.
func (r *Report) count(metric, label, value string, from translate.Family) {
	sample := fmt.Sprintf("isthmus_router_%s_total{%s=%q}", metric, label, value)
	if metric == "packets" {
		direction := "ipv4_to_ipv6" // what is no IP at all counts here, too
		if from == translate.V6 {
			direction = "ipv6_to_ipv4"
		}
		sample = fmt.Sprintf("isthmus_router_%s_total{direction=%q,%s=%q}", metric, direction, label, value)
	}
	for i := range r.Counters {
		if r.Counters[i].Sample == sample {
			r.Counters[i].Add++
			return
		}
	}
	r.Counters = append(r.Counters, Counter{sample, 1})
}
