package twin

import "encoding/binary"

// clampMSS lowers the maximum segment size that a SYN offers, in w.body. No RFC
// asks for it; RFC 9293 3.1 has the option's form, and 3.7.1 its meaning: "The MSS
// value to be sent in an MSS Option should be equal to the effective MTU minus the
// fixed IP and TCP headers", with 536 where there is none.
func (w *work) clampMSS() {
	c, b := w.in.Config.MSSClamp, w.body
	if !c.Auto && c.Max == 0 || superpacket(w.in.Meta, w.old) || b[13]>>1&1 == 0 {
		return
	}
	most := 1 << 16
	if c.Max > 0 {
		most = c.Max
	}
	if c.Auto {
		for _, side := range []struct{ version, mtu int }{{int(w.res.From), w.in.MTUIn}, {int(w.res.To), w.in.MTUOut}} {
			headers := map[int]int{4: 20, 6: 40}[side.version] + 20
			if side.mtu > 0 {
				most = min(most, max(side.mtu-headers, 536))
			}
		}
	}
	offset := int(b[12]>>4) * 4
	if offset < 20 || offset > len(b) {
		return
	}
	for options := b[20:offset]; len(options) > 0; {
		length := 1
		if kind := options[0]; kind == 0 {
			return
		} else if kind != 1 {
			if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
				return
			}
			length = int(options[1])
			if kind == 2 {
				if length == 4 && int(binary.BigEndian.Uint16(options[2:])) > most {
					binary.BigEndian.PutUint16(options[2:], uint16(most))
				}
				return
			}
		}
		options = options[length:]
	}
}
